"""TensorBoard and Weights & Biases get the same scalars as the HTML page, under the same names."""

import sys
from types import ModuleType

import pytest
import torch
import toys

from r2kd_mm.registry import MODELS
from r2kd_mm.report.trained_runs import read_scalars
from r2kd_mm.runs.logs import SCALARS


@pytest.fixture
def logged(tmp_path):
    """Train a distillation with another backend next to the local one; return the scalars of the local one."""

    def train(backend):
        torch.manual_seed(0)
        model = dict(
            type='R2KD',
            architecture=toys.classifier(),
            teacher=MODELS.build(dict(toys.classifier(), type='mmpretrain.ImageClassifier')),
            losses=dict(loss_value=dict(type='CorrelationDistanceLoss', temperature=4.0)),
            pruner=dict(type='MagnitudePruner', amount=0.1),
            augmentation=dict(type='CutMix'),
        )
        visualizer = dict(
            type='mmpretrain.UniversalVisualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type=backend)]
        )
        runner = toys.runner(model, tmp_path, visualizer=visualizer)
        runner.train()
        runner.visualizer.close()
        scalars, unreadable = read_scalars(list(tmp_path.glob(SCALARS)))
        assert unreadable == 0
        assert {'loss', 'student.loss', 'clean.loss_value', 'augmented.loss_value', 'accuracy/top1'} <= scalars.keys()
        return scalars

    return train


def test_tensorboard_gets_the_same_scalars_by_the_same_names(logged, tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scalars = logged('TensorboardVisBackend')
    (folder,) = {path.parent for path in tmp_path.rglob('events.out.tfevents.*')}
    events = EventAccumulator(str(folder))
    events.Reload()
    tags = set(events.Tags()['scalars'])
    assert tags - {'epoch', 'iter'} == scalars.keys()
    for name, series in scalars.items():
        points = {event.step: event.value for event in events.Scalars(name)}
        assert points == {step: pytest.approx(value, rel=1e-6) for step, value in zip(series.steps, series.values)}


def test_weights_and_biases_gets_the_same_scalars_by_the_same_names(logged, monkeypatch):
    """Through MMEngine's backend, to a module that only keeps what is logged."""
    rows = []
    wandb = ModuleType('wandb')
    wandb.init = lambda **kwargs: wandb
    wandb.log = lambda row, **kwargs: rows.append(row)
    wandb.config = type('Config', (), dict(update=lambda self, *args, **kwargs: None))()
    wandb.run = type('Run', (), dict(log_code=lambda self, *args, **kwargs: None))()
    wandb.join = lambda: None
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    scalars = logged('WandbVisBackend')
    assert {name for row in rows for name in row} - {'epoch', 'iter', 'step'} == scalars.keys()
    for name in scalars.keys() - {'time', 'data_time'}:  # logged for training and validation, whose steps overlap
        series = scalars[name]
        assert [float(row[name]) for row in rows if name in row] == pytest.approx(series.values.tolist())
