"""Files of earlier versions can be read and still give the same results.

``tests/data/<version>`` holds the files; ``make.py`` next to them made them, and ``expected.json`` has the numbers.
"""

import argparse
import json
import shutil

import pytest
import toolbox
import torch
from mmengine.dataset import default_collate
from mmengine.runner import Runner

from r2kd_mm.engine import SampleIndex, set_resume
from r2kd_mm.engine.run_config import load_run_config
from r2kd_mm.export import FORMATS, Predictor, load_student
from r2kd_mm.report import find_groups, make_rows
from r2kd_mm.runs import Method, State, collect, look_at, plan_runs

DATA = toolbox.ROOT / 'tests/data/v0_1_0'
EXPECTED = json.loads((DATA / 'expected.json').read_text())
IMAGES, LOGITS = torch.tensor(EXPECTED['images']), torch.tensor(EXPECTED['logits'])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in which a user of the earlier version worked."""
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_student_of_a_checkpoint_has_its_logits():
    student = load_student(DATA / 'run/epoch_8.pth')
    torch.testing.assert_close(student.images, IMAGES)
    torch.testing.assert_close(student.logits(), LOGITS, rtol=1e-4, atol=1e-4)
    assert len(set(LOGITS.argmax(1).tolist())) > 3


@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize('name', FORMATS)
def test_an_export_has_the_logits_of_its_student(name):
    for package in FORMATS[name].packages:
        pytest.importorskip(package)
    if name == 'exported' and torch.__version__ < '2.13':
        pytest.skip('torch.export writes for the same or a later torch, and this file is of 2.13')
    predictor = Predictor(DATA / 'exports' / name)
    torch.testing.assert_close(predictor.network(IMAGES), LOGITS, rtol=1e-4, atol=1e-4)
    assert predictor.classes == list('0123456789')
    assert predictor.preprocessing.channel_order == 'GRAY'
    assert (predictor.preprocessing.mean, predictor.preprocessing.std) == ((77.9,), (95.9,))


def run_of(config, work_dir, resume):
    """The Runner that ``tools/train.py`` would build."""
    arguments = dict(cfg_options={}, launcher='none', local_rank=0, no_pin_memory=True)
    cfg = load_run_config(argparse.Namespace(config=config, work_dir=work_dir, **arguments))
    set_resume(cfg, resume)
    cfg.experiment_name = f'{DATA.name}_{work_dir}'  # MMEngine keeps one message hub for each
    return Runner.from_cfg(cfg)


def test_a_run_goes_on_with_the_config_and_the_checkpoint_and_names_the_store_that_it_cannot_use(folder):
    """The store has no checksums of the images that its logits belong to, so the teachers are asked again."""
    runner = run_of('my_distillation.py', 'run', 'run/epoch_4.pth')
    runner.train()
    assert list(runner.model.teachers) == ['teacher', 'pruned_teacher']
    losses = torch.tensor(runner.message_hub.get_scalar('train/loss').data[0])
    expected = torch.tensor(EXPECTED['losses'], dtype=losses.dtype)
    torch.testing.assert_close(losses, expected, rtol=1e-2, atol=0)  # logits in float32 where they were in float16
    torch.testing.assert_close(losses[:25], expected[:25], rtol=1e-3, atol=0)
    (old,) = (DATA / 'store').iterdir()
    log = ''.join(path.read_text() for path in folder.glob('run/*/*.log'))
    assert f'The teacher logits in store/{old.name} were written by another version of r2kd_mm' in log
    assert 'delete these folders' in log
    inputs = [runner.train_dataloader.dataset[SampleIndex(index, 1)]['data_samples'].sample_idx for index in range(8)]
    logits = runner.model.replay.store.read('clean', 1, inputs, [index.checksum for index in inputs])
    torch.testing.assert_close(logits, torch.tensor(EXPECTED['store']['clean_0001']), rtol=1e-3, atol=1e-2)


def test_a_teacher_has_the_logits_that_the_store_keeps_of_it(folder):
    shutil.rmtree('store')
    runner = run_of('my_distillation.py', 'again', None)
    expected = torch.tensor(EXPECTED['store']['clean_0000'])
    images = default_collate([runner.train_dataloader.dataset[index] for index in range(len(expected))])
    inputs = runner.model.data_preprocessor(images)['inputs']
    torch.testing.assert_close(runner.model.teacher_logits(inputs), expected, rtol=1e-3, atol=1e-2)


def test_a_comparison_is_finished_and_has_its_accuracies(folder):
    method = Method('my_distillation', 'my_distillation.py', {'model.replay.folder': 'compare/store'})
    runs = plan_runs([method], [0, 1], folder / 'compare/runs')
    assert set(look_at(runs).values()) == {State.FINISHED}
    (row,) = make_rows(collect(runs, {}))
    (saved,) = EXPECTED['compare']
    found = [row.results[seed].last for seed in (0, 1)]
    assert found == [saved['runs'][seed]['accuracy'][-1] for seed in '01']


def test_the_folder_of_a_run_can_be_analysed(folder):
    compared, alone = find_groups(['compare/runs/my_distillation', 'run'])
    assert (compared.name, [run.seed for run in compared.runs]) == ('my_distillation', [0, 1])
    (run,) = alone.runs
    assert run.checkpoint.name == 'epoch_8.pth'
    accuracy = run.scalars['accuracy/top1']
    assert accuracy.steps.tolist() == [4, 8]
    assert accuracy.values.round(2).tolist() == [16.77, 67.80]
