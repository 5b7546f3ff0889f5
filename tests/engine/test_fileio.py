"""Files are written atomically: after an interruption, the old file is unchanged."""

import os
import resource
from pathlib import Path

import pytest
import torch
import toys
from mmengine.fileio import get_file_backend

from r2kd_mm.engine import AtomicLocalBackend
from r2kd_mm.engine.fileio import remove_leftovers


@pytest.fixture
def backend() -> AtomicLocalBackend:
    return get_file_backend(backend_args=dict(backend='atomic'))


def test_it_is_registered(backend):
    assert isinstance(backend, AtomicLocalBackend)


def test_content_arrives_in_a_new_folder(backend, tmp_path):
    backend.put(b'\0\1', tmp_path / 'a' / 'b' / 'file')
    assert (tmp_path / 'a' / 'b' / 'file').read_bytes() == b'\0\1'
    backend.put_text('grün', str(tmp_path / 'text'))
    assert (tmp_path / 'text').read_text(encoding='utf-8') == 'grün'
    assert sorted(os.listdir(tmp_path)) == ['a', 'text']


@pytest.mark.parametrize('error', [KeyboardInterrupt, OSError(28, 'No space left on device')])
@pytest.mark.parametrize('step', ['fsync', 'replace'])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(backend, tmp_path, monkeypatch, error, step):
    path = tmp_path / 'epoch_1.pth'
    backend.put(b'old', path)

    def fail(*args):
        raise error

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        backend.put(b'new', path)
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['epoch_1.pth']


def test_the_error_of_a_full_disk_states_the_size_of_the_file(backend, tmp_path):
    """The largest size of a file, set for this process alone, fails as a full disk does."""
    path = tmp_path / 'epoch_1.pth'
    backend.put(b'old', path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r'2,000 bytes were to be written, [\d,]+ are free there.*epoch_1\.pth'):
            backend.put(bytes(2000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['epoch_1.pth']


def test_the_folder_is_synced_after_the_file_has_its_name(backend, tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, 'fsync', lambda file: (events.append(os.readlink(f'/proc/self/fd/{file}')), fsync(file)))
    monkeypatch.setattr(os, 'replace', lambda *paths: (events.append('replace'), replace(*paths)))
    backend.put(b'', tmp_path / 'file')
    assert events == [str(tmp_path / f'.file.{os.getpid()}.tmp'), 'replace', str(tmp_path)]


def test_the_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path):
    names = ['.epoch_1.pth.123.tmp', '.last_checkpoint.7.tmp', '.bashrc', 'epoch_1.pth.123.tmp', '.a.b.tmp']
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(names[2:])


def test_the_file_is_complete_before_it_has_its_name(backend, tmp_path, monkeypatch):
    seen = []
    real = os.replace

    def replace(source, target):
        seen.append((Path(source).read_bytes(), Path(source).parent == tmp_path, Path(target).exists()))
        real(source, target)

    monkeypatch.setattr(os, 'replace', replace)
    backend.put(b'x' * 100_000, tmp_path / 'file')
    assert seen == [(b'x' * 100_000, True, False)]


def test_a_symbolic_link_stays_one(backend, tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path / 'target')
    backend.put(b'content', tmp_path / 'link')
    assert (tmp_path / 'link').is_symlink()
    assert (tmp_path / 'target').read_bytes() == b'content'


def test_permissions_equal_those_of_any_new_file(backend, tmp_path):
    backend.put(b'', tmp_path / 'atomic')
    (tmp_path / 'plain').write_bytes(b'')
    assert (tmp_path / 'atomic').stat().st_mode == (tmp_path / 'plain').stat().st_mode


def test_the_checkpoint_hook_writes_through_it(tmp_path, monkeypatch):
    written = []
    real = AtomicLocalBackend.put
    monkeypatch.setattr(AtomicLocalBackend, 'put', lambda *args: (written.append(Path(args[2]).name), real(*args)))
    checkpoint = dict(type='CheckpointHook', interval=1, backend_args=dict(backend='atomic'))
    toys.runner(toys.classifier(), tmp_path, default_hooks=dict(checkpoint=checkpoint)).train()
    assert written == ['epoch_1.pth']
    assert 'state_dict' in torch.load(tmp_path / 'epoch_1.pth', weights_only=False)
