"""Runs train on the requested device; a missing device is refused, and two processes give the result of one."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from r2kd_mm.photos import devices as module
from r2kd_mm.photos import distill, stages
from r2kd_mm.photos.devices import HIDDEN, check_devices, kept_on
from r2kd_mm.photos.options import Options

COLOURS = dict(blue=(40, 60, 200), green=(60, 180, 70), red=(210, 50, 60))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(devices='tpu'), "--devices must be cpu, gpu or a number of processes, at least 1, got 'tpu'"),
        (dict(devices=0), 'at least 1, got 0'),
        (dict(devices='3'), '--batch-size 32 is that of all processes: --devices 3 must divide it'),
        (dict(devices=16, batch_size=16), 'and leave at least 2 images to each'),
        (dict(devices=2, jobs=3), '--devices 2 and --jobs 3: runs at the same time would share the devices'),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Options('photos', 'timm/a', 'timm/b', 'x', **changes)


def test_only_several_processes_make_another_run():
    one, other, several = (Options('photos', 'timm/a', 'timm/b', 'x', devices=kind) for kind in (None, 'cpu', '2'))
    assert one.identity == other.identity != several.identity
    assert several.processes == 2


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(module, 'get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match='--devices gpu: torch finds no GPU on this machine; give --devices cpu'):
        check_devices('gpu')
    monkeypatch.setattr(os, 'cpu_count', lambda: 4)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
    check_devices(4)
    with pytest.raises(ValueError, match='this machine has 4 processor cores, and no GPU; give at most 4'):
        check_devices(5)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with pytest.raises(ValueError, match='--devices 3: this machine has 2 GPUs; give at most 2'):
        check_devices(3)


@pytest.mark.parametrize('before', [None, '0,1'])
def test_the_cpu_hides_the_gpus_from_the_runs_alone(before, monkeypatch):
    monkeypatch.delenv(HIDDEN, raising=False)
    if before is not None:
        monkeypatch.setenv(HIDDEN, before)
    with kept_on('cpu'):
        assert os.environ[HIDDEN] == ''
    assert os.environ.get(HIDDEN) == before
    with kept_on(2):
        assert os.environ.get(HIDDEN) == before


@pytest.mark.slow
def test_two_processes_give_what_one_gives_with_the_same_images_a_step(tmp_path):
    """The network has no batch normalisation, which would see half of the images in each process."""
    pytest.importorskip('timm')
    rng = np.random.default_rng(0)
    for part, count in (('train', 16), ('val', 8)):
        for name, colour in COLOURS.items():
            (tmp_path / 'photos' / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = np.clip(rng.normal(colour, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / 'photos' / part / name / f'{number}.png')
    losses = {}
    for devices in ('cpu', 2):
        out = tmp_path / str(devices)
        found = distill(
            tmp_path / 'photos', 'timm/test_vit', 'timm/test_vit', out, teacher_init='none', student_init='none',
            image_size=32, teacher_image_size=32, batch_size=8, epochs=4, lr=5e-3, teacher_lr=5e-3, workers=0,
            formats=(), page=False, baseline=False, devices=devices,
        )  # fmt: skip
        assert found.accuracy['student_distilled'] > 80
        rows = [
            json.loads(line)
            for run in sorted((out / 'runs').glob('*/seed_0'))
            for line in next(run.glob('*/vis_data/scalars.json')).read_text().splitlines()
        ]
        losses[devices] = [row['loss'] for row in rows if 'loss' in row]
    assert len(losses[2]) == 8  # of the last step of each epoch
    assert losses[2] == pytest.approx(losses['cpu'], rel=0.02, abs=1e-3)
    config = (tmp_path / '2' / 'configs' / 'student_distilled.py').read_text()
    assert 'bash tools/dist_train.sh' in config
    assert 'batch_size=4' in config


@pytest.mark.parametrize(
    ('options', 'gpus'),
    [(dict(jobs=2), ('0', '1')), (dict(jobs=1), None), (dict(jobs=2, devices='cpu'), None), (dict(devices=2), None)],
)
def test_runs_at_the_same_time_take_the_gpus_in_turn(options, gpus, monkeypatch):
    monkeypatch.setattr(stages, 'visible_gpus', lambda: ('0', '1'))
    engine = stages.engine_of(Options('photos', 'timm/a', 'timm/b', 'x', **options))
    assert engine.gpus == gpus
    assert engine.jobs == options.get('jobs', 1)
