"""A damaged checkpoint is refused or loads with unchanged content, and no checkpoint can run code.

The last line of each test's report counts the cases.
"""

from __future__ import annotations

import io
import os
import random
import re
from pathlib import Path

import pytest
import toolbox
import torch
import toys
from mmengine.config import Config

from r2kd_mm.checkpoint import load_checkpoint_file
from r2kd_mm.engine import find_checkpoint
from r2kd_mm.registry import MODELS
from r2kd_mm.zoo import build_classifier

FLIPS = 500
STUDENT = 'configs/supervised/res6_digits.py'
DISTILLATION = 'configs/kd/kd_res14_res6_digits.py'
QUICK = ('train_dataloader.dataset.train_size=60', 'train_cfg.max_epochs=2')


@pytest.fixture
def count(record_property, capsys):
    """Print what was counted, and keep it in the report."""

    def report(line: str) -> None:
        record_property('counts', line)
        with capsys.disabled():
            print(f'\n{line}')

    return report


@pytest.fixture(scope='module')
def runner_checkpoint(tmp_path_factory) -> bytes:
    """A checkpoint with optimizer, schedulers and message hub."""
    work_dir = tmp_path_factory.mktemp('run')
    toys.runner(toys.classifier(), work_dir, param_scheduler=dict(type='MultiStepLR', milestones=[1])).train()
    return (work_dir / 'epoch_1.pth').read_bytes()


def content(path: Path) -> bytes:
    """Return the content of a checkpoint as bytes; equal contents give equal bytes."""
    buffer = io.BytesIO()
    torch.save(load_checkpoint_file(path), buffer)
    return buffer.getvalue()


def read_damaged(path: Path, damaged: list[bytes], expected: bytes) -> tuple[int, int]:
    """Count the files refused by a clear error that names the file, and the files with the expected content."""
    refused = equal = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            found = content(path)
        except ValueError as error:
            refused += str(path) in str(error)
        else:
            assert found == expected, 'a damaged file was loaded'
            equal += 1
    return refused, equal


def flip(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def headers(data: bytes) -> list[int]:
    """Find the headers of the archive and of its table of contents, which no checksum covers."""
    starts = [match.start() for match in re.finditer(rb'PK(\x03\x04|\x01\x02|\x05\x06)', data)]
    return sorted({place for start in starts for place in range(start, min(start + 64, len(data)))})


def test_no_record_is_taken_for_a_folder(tmp_path):
    """One flipped bit in the table of contents, on which torch.load returns what was in the memory before."""
    path = tmp_path / 'a.pth'
    torch.save(dict(weight=torch.ones(100)), path)
    data = path.read_bytes()
    entry = next(
        place
        for place in headers(data)
        if data[place:].startswith(b'PK\x01\x02') and b'data/0' in data[place : place + 64]
    )
    path.write_bytes(flip(data, 8 * (entry + 38) + 4))
    with pytest.raises(ValueError, match=r"a\.pth' is damaged: it has .*data/0 marked as a folder"):
        load_checkpoint_file(path)


@pytest.mark.parametrize('kind', toolbox.quick_first(['bare weights', 'checkpoint of a Runner']))
class TestDamage:
    @pytest.fixture
    def data(self, kind, runner_checkpoint, tmp_path) -> bytes:
        if kind == 'checkpoint of a Runner':
            return runner_checkpoint
        torch.save(dict(weight=torch.randn(100)), tmp_path / 'bare.pth')
        return (tmp_path / 'bare.pth').read_bytes()

    @pytest.fixture
    def path(self, tmp_path, data) -> Path:
        path = tmp_path / 'a.pth'
        path.write_bytes(data)
        return path

    def test_no_truncation_is_loaded(self, kind, data, path, count):
        lengths = sorted({*range(0, len(data), max(1, len(data) // 100)), *range(len(data) - 100, len(data))})
        refused, equal = read_damaged(path, [data[:length] for length in lengths], content(path))
        count(f'{kind}: {refused} of {len(lengths)} truncations refused (one of length 0)')
        assert (refused, equal) == (len(lengths), 0)

    def test_no_flipped_bit_changes_what_is_loaded(self, kind, data, path, count):
        draw = random.Random(0)
        anywhere = [draw.randrange(8 * len(data)) for _ in range(FLIPS)]
        in_headers = [8 * place + draw.randrange(8) for place in draw.choices(headers(data), k=FLIPS)]
        expected = content(path)
        for name, bits in (('anywhere', anywhere), ('in headers', in_headers)):
            refused, equal = read_damaged(path, [flip(data, bit) for bit in bits], expected)
            count(f'{kind}: of {FLIPS} bits flipped {name} {refused} refused, {equal} without effect')
            assert refused + equal == FLIPS


class RunsCode:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f'touch "{self.trace}"',)


def save(checkpoint: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


@pytest.fixture(scope='module')
def digits(tmp_path_factory) -> dict[str, Path]:
    """A sound file of each kind: the runs of a teacher and of a student."""
    folder = tmp_path_factory.mktemp('digits')
    for name, config in (('teacher', 'configs/supervised/res14_digits.py'), ('student', STUDENT)):
        finished = toolbox.run_forked(
            'train.py', toolbox.ROOT / config, '--work-dir', folder / name, '--no-validate', '--cfg-options', *QUICK
        )
        assert finished.returncode == 0, finished.stderr
    torch.save(build_classifier('cifar/resnet20').state_dict(), folder / 'ours.pth')
    finished = toolbox.run_forked(
        'model_converters/convert_zoo_checkpoint.py',
        '--reverse',
        'cifar/resnet20',
        folder / 'ours.pth',
        folder / 'zoo.pth',
    )
    assert finished.returncode == 0, finished.stderr
    return dict(teacher=folder / 'teacher/epoch_2.pth', student=folder / 'student/epoch_2.pth', zoo=folder / 'zoo.pth')


READERS = [
    'resume',
    'resume PATH',
    'teacher_ckpt',
    'load_from',
    'test.py',
    'prune_teacher.py',
    'convert_zoo_checkpoint.py',
]


def read_by(reader: str, path: Path, folder: Path) -> toolbox.Finished:
    """Give ``path`` to the tool that reads a file of this kind."""
    work_dir = path.parent if reader.startswith('resume') else folder / 'work'
    train = ('train.py', toolbox.ROOT / STUDENT, '--work-dir', work_dir, '--no-validate')
    options = ('--cfg-options', *QUICK, 'train_cfg.max_epochs=3')
    if reader == 'resume':
        (path.parent / 'last_checkpoint').write_text(str(path))
        return toolbox.run_forked(*train, '--resume', *options)
    if reader == 'resume PATH':
        return toolbox.run_forked(*train, '--resume', path, *options)
    if reader == 'load_from':
        return toolbox.run_forked(*train, *options, f'load_from={path}')
    if reader == 'teacher_ckpt':
        train = ('train.py', toolbox.ROOT / DISTILLATION, *train[2:])
        return toolbox.run_forked(*train, *options, f'model.teacher_ckpt={path}')
    if reader == 'test.py':
        return toolbox.run_forked('test.py', toolbox.ROOT / STUDENT, path, '--work-dir', folder / 'test')
    if reader == 'prune_teacher.py':
        return toolbox.run_forked('prune_teacher.py', toolbox.ROOT / STUDENT, path, '--out', folder / 'pruned')
    return toolbox.run_forked(f'model_converters/{reader}', 'cifar/resnet20', path, folder / 'converted.pth')


@pytest.mark.parametrize('reader', toolbox.quick_first(READERS))
def test_every_reader_refuses_what_is_damaged_or_hostile(reader, digits, tmp_path, count):
    kinds = {'teacher_ckpt': 'teacher', 'convert_zoo_checkpoint.py': 'zoo'}
    sound = digits[kinds.get(reader, 'student')].read_bytes()
    trace = tmp_path / 'it-ran'
    hostile = torch.load(io.BytesIO(sound), weights_only=False)
    files = {
        'empty': b'',
        'truncated': sound[: len(sound) // 2],
        'flipped': flip(sound, 8 * (len(sound) // 2)),
        'hostile': save(dict(hostile, extra=RunsCode(trace))),
        'hostile in the old format': save(dict(hostile, extra=RunsCode(trace)), zipped=False),
        'hostile pickle': b'cos\nsystem\n(S\'touch "' + str(trace).encode() + b'"\'\ntR.',
    }
    for name, data in files.items():
        path = tmp_path / name.replace(' ', '-') / 'epoch_2.pth'  # --cfg-options drop spaces
        path.parent.mkdir()
        path.write_bytes(data)
        finished = read_by(reader, path, path.parent)
        assert finished.returncode == 1, f'{reader} has read a file that is {name}'
        assert 'Traceback' not in finished.stderr
        assert re.search(rf'^error: .*{re.escape(str(path.parent))}', finished.stderr, re.M), finished.stderr
        assert not trace.exists(), f'{reader} has run the code in a file that is {name}'
    path = tmp_path / 'sound' / 'epoch_2.pth'
    path.parent.mkdir()
    path.write_bytes(sound)
    finished = read_by(reader, path, path.parent)
    assert finished.returncode == 0 or 'the teacher scores' in finished.stderr, finished.stderr
    count(f'{reader}: {len(files)} of {len(files)} bad files refused, the sound one read, no code run')


def test_a_config_in_a_checkpoint_does_not_run_on_resume(tmp_path, count):
    """``Runner.resume`` runs ``meta['config']`` as Python."""
    trace = tmp_path / 'it-ran'
    toys.runner(toys.classifier(), tmp_path).train()
    checkpoint = torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
    code = f'__import__("os").system("touch {trace}")\n'
    checkpoint['meta'].update(config=code, cfg=code)
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    hooks = [dict(type='RunRecordHook', allow_changes=True)]
    model = toys.classifier(data_preprocessor=dict(type='ClsDataPreprocessor', mean=[0.0] * 3, std=[1.0] * 3))
    toys.runner(model, tmp_path, epochs=2, resume=True, hooks=hooks).train()
    assert not trace.exists()
    Config.fromstring(code, '.py')
    assert trace.exists()  # so it would have run
    count('resume: code in the recorded config is not run')


def test_a_pointer_with_garbage_runs_nothing(tmp_path, count, capsys):
    trace = tmp_path / 'it-ran'
    (tmp_path / 'epoch_1.pth').write_bytes(save(dict(state_dict=RunsCode(trace))))
    draw = random.Random(0)
    contents = [draw.randbytes(draw.randrange(100)) for _ in range(50)]
    contents += [
        b'cos\nsystem\n(S\'touch "' + str(trace).encode() + b'"\'\ntR.',
        str(tmp_path / 'epoch_1.pth').encode(),
    ]
    for data in contents:
        (tmp_path / 'last_checkpoint').write_bytes(data)
        with pytest.raises(ValueError, match=r'none of the checkpoints .* is whole'):
            find_checkpoint(tmp_path)
    capsys.readouterr()  # a warning each
    assert not trace.exists()
    count(f'last_checkpoint: {len(contents)} of {len(contents)} kinds of garbage harmless')


def test_the_models_of_the_configs_can_be_built():
    """The files above are refused for what they are, and not because a config does not fit."""
    assert MODELS.build(dict(Config.fromfile(toolbox.ROOT / STUDENT).model, _scope_='r2kd_mm')) is not None
