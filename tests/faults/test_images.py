"""A broken image ends the run with an error that names it, or is skipped and counted if the config says so."""

from __future__ import annotations

import random
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import toolbox
import torch
import toys
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image
from ranks import run_on_ranks

from r2kd_mm.datasets import ImageFolder
from r2kd_mm.engine import RunStopped, SampleIndex, SeededDataset, clear_errors

IMAGENET = Config.fromfile(toolbox.ROOT / 'configs/_base_/datasets/imagenet.py')
TINY = Config.fromfile(toolbox.ROOT / 'configs/_base_/datasets/tiny_imagenet.py')
TRUNCATIONS = 50
CLASSES = ('bad', 'good')
# what is in the file, given what was
BROKEN = {
    'empty': lambda whole: b'',
    'truncated': lambda whole: whole[: len(whole) // 2],
    'end cut off': lambda whole: whole[:-3],
    'end overwritten': lambda whole: whole[: len(whole) // 2].ljust(len(whole), b'\0'),
    'web page': lambda whole: b'<html><title>404 Not Found</title></html>',
    'other bytes': lambda whole: random.Random(0).randbytes(len(whole)),
}


def pixels(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_unusual(folder: Path) -> list[Path]:
    """One image of every unusual kind."""
    folder.mkdir(parents=True)
    rgb, deep = Image.fromarray(pixels(300, 400)), pixels(300, 400).astype(np.uint16) * 257
    for mode in ('L', 'CMYK'):
        rgb.convert(mode).save(folder / f'{mode}.JPEG')
    for mode in ('L', 'LA', 'P', 'RGBA', '1'):
        rgb.convert(mode).save(folder / f'{mode}.png')
    rgb.save(folder / 'png_by_another_name.JPEG', 'PNG')  # ImageNet has one
    cv2.imwrite(str(folder / '16bit.png'), deep)
    cv2.imwrite(str(folder / '16bit_grey.png'), deep[..., 0])
    cv2.imwrite(str(folder / '16bit.tif'), deep)
    for height, width in ((1, 1), (1, 3000), (3000, 1), (6144, 8192)):  # the last has 50 megapixels
        cv2.imwrite(str(folder / f'{height}x{width}.JPEG'), pixels(height, width))
    return sorted(folder.iterdir())


def build(data_root: Path, pipeline: list, split: str = 'train', **fields) -> ImageFolder:
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        return ImageFolder(str(data_root), split, pipeline, **fields)


def load_unusual(folder: str) -> list[list[tuple]]:
    """Kind of each input of each pipeline."""
    write_unusual(Path(folder) / 'train/unusual')
    datasets = (
        build(folder, pipeline, test_mode=True) for pipeline in (IMAGENET.train_pipeline, IMAGENET.val_pipeline)
    )
    return [
        [(tuple(sample['inputs'].shape), str(sample['inputs'].dtype)) for sample in dataset] for dataset in datasets
    ]


def test_unusual_images_pass_the_real_pipelines(tmp_path, count):
    (pipelines,) = run_on_ranks(1, load_unusual, str(tmp_path))  # not here: 50 megapixels take half a gigabyte
    files = len(list((tmp_path / 'train/unusual').iterdir()))
    assert pipelines == 2 * [files * [((3, 224, 224), 'torch.uint8')]]
    count(f'images: {files} unusual files load as 3 x 224 x 224 in {len(pipelines)} pipelines')


@pytest.mark.parametrize('file_format', toolbox.quick_first(['JPEG', 'PNG', 'BMP', 'PPM', 'TIFF']))
def test_no_truncation_is_loaded(file_format, tmp_path, count):
    path = tmp_path / 'train/only' / f'a.{file_format.lower()[:4]}'.replace('tiff', 'tif')
    path.parent.mkdir(parents=True)
    Image.fromarray(pixels(64, 64)).save(path, file_format)
    content = path.read_bytes()
    dataset = build(tmp_path, TINY.train_pipeline)
    assert dataset[0]['inputs'].shape == (3, 64, 64)
    for length in np.linspace(0, len(content) - 4, TRUNCATIONS).astype(int):
        path.write_bytes(content[:length])
        with pytest.raises(RunStopped, match=f"image '{path}' "):
            dataset[0]
    count(f'images: {TRUNCATIONS} of {TRUNCATIONS} truncations of a {file_format} file named')


@pytest.fixture
def folder(tmp_path) -> Path:
    """20 images of each of two classes; the first ones of the first are broken, each in its own way."""
    for name in CLASSES:
        (tmp_path / 'data/train' / name).mkdir(parents=True)
        for index in range(20):
            path = tmp_path / 'data/train' / name / f'{index:02}.JPEG'
            Image.fromarray(pixels(20, 30)).save(path)
            if name == 'bad' and index < len(BROKEN):
                path.write_bytes(list(BROKEN.values())[index](path.read_bytes()))
    return tmp_path / 'data'


NUM_BROKEN = len(BROKEN)
EPOCHS = 3


def loader(folder: Path, broken: str, num_workers: int = 2, **fields) -> dict:
    """A data loader that looks at every image of ``folder`` in each epoch."""
    pipeline = [
        dict(type='LoadImageFromFile', broken=broken),
        dict(type='RandomResizedCrop', scale=8),
        dict(type='PackInputs'),
    ]
    return dict(
        dataset=dict(type='ImageFolder', data_root=str(folder), split='train', pipeline=pipeline, **fields),
        batch_size=8,
        num_workers=num_workers,
        sampler=dict(type='DefaultSampler', shuffle=True),
    )


def runner(work_dir: Path, train_dataloader: dict, **fields) -> Runner:
    """A run of 3 epochs that has no validation unless ``fields`` say so."""
    return toys.runner(
        toys.classifier(num_classes=len(CLASSES), data_preprocessor=dict(mean=[127.0] * 3, std=[60.0] * 3)),
        work_dir,
        hooks=[dict(type='DataCheckHook')],
        train_cfg=dict(type='ResumableTrainLoop', max_epochs=EPOCHS),
        train_dataloader=train_dataloader,
        **fields or dict(val_dataloader=None, val_cfg=None, val_evaluator=None),
    )


def train_as_the_tools_do(run: Runner) -> None:
    with clear_errors() as guard:
        guard.watch(run)
        guard.training_began = True  # as from the second iteration on, when a traceback is shown of other errors
        run.train()


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_broken_image_ends_the_run_by_one_message_that_names_it(folder, tmp_path, capsys, num_workers):
    run = runner(tmp_path / 'work', loader(folder, 'error', num_workers))
    with pytest.raises(SystemExit):
        train_as_the_tools_do(run)
    message = r"^error: image '.*/train/bad/0\d.JPEG' is .*broken='skip' in LoadImageFromFile of its pipeline$"
    assert re.search(message, capsys.readouterr().err, re.MULTILINE)


def test_a_run_leaves_broken_images_out_and_counts_them(folder, tmp_path, count):
    run = runner(tmp_path / 'work', loader(folder, 'skip'))
    run.train()
    total = run.message_hub.get_info('skipped_images')
    log = next(tmp_path.glob('work/*/*.log')).read_text()
    named = [log.count(f"Image '{folder}/train/bad/{index:02}.JPEG' ") for index in range(NUM_BROKEN)]
    assert min(named) >= EPOCHS  # more often where a broken image was drawn to replace another
    assert sum(named) == total == log.count('it is left out')
    so_far = [int(line.split()[-1].rstrip('.')) for line in log.splitlines() if 'in this run so far' in line]
    assert len(so_far) == EPOCHS
    assert so_far[-1] == total
    assert f'Broken images left out in this run: {total}.' in log
    assert run.iter == EPOCHS * 5  # no sample is missing
    saved = torch.load(tmp_path / f'work/epoch_{EPOCHS}.pth', weights_only=False)['message_hub']
    assert saved['runtime_info']['skipped_images'] == total
    count(f'images: {NUM_BROKEN} broken files of 40, skipped and counted {total} times in {EPOCHS} epochs by 2 workers')


def test_the_images_that_replace_broken_ones_do_not_depend_on_the_workers(folder, tmp_path):
    weights = []
    for num_workers in (0, 2):
        run = runner(tmp_path / str(num_workers), loader(folder, 'skip', num_workers))
        run.train()
        weights.append(run.model.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


def test_a_replacement_is_drawn_for_seed_epoch_and_index(folder):
    dataset = build(folder, [dict(type='LoadImageFromFile', broken='skip'), dict(type='PackInputs')])

    def replacements(seed: int, epoch: int) -> list[str]:
        seeded = SeededDataset(dataset, seed)
        return [seeded[SampleIndex(index, epoch)]['data_samples'].img_path for index in range(NUM_BROKEN)]

    assert replacements(0, 1) == replacements(0, 1)
    assert replacements(0, 1) != replacements(0, 2)
    assert replacements(0, 1) != replacements(1, 1)


def test_validation_leaves_nothing_out(folder, tmp_path):
    run = runner(tmp_path, loader(folder, 'skip'), val_dataloader=loader(folder, 'skip', test_mode=True))
    with pytest.raises(ValueError, match=r"val_dataloader must score every image.*take broken='skip' out of it"):
        run.train()
    assert run.iter == 0
