"""Checkpoints load without running code, broken ones are refused, and weights are found in any of them."""

import io
import os
import pickle
import warnings
from collections import Counter, OrderedDict
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader
from mmengine.utils import digit_version
from torch import nn

from r2kd_mm import plain
from r2kd_mm.checkpoint import digest_of_file, load_checkpoint_file, load_url, select_weights
from r2kd_mm.plain import RestrictedUnpickler

TORCH = digit_version(torch.__version__)

WEIGHTS = {'head.fc.weight': torch.ones(2)}


@pytest.mark.parametrize(
    'checkpoint',
    [
        WEIGHTS,
        {'model': WEIGHTS},
        {'state_dict': WEIGHTS, 'meta': {'epoch': 1}},
        {'state_dict': {'module.head.fc.weight': torch.ones(2)}},
        {'architecture.head.fc.weight': torch.ones(2), 'teacher.head.fc.weight': torch.zeros(2)},
    ],
    ids=['bare', 'model', 'runner', 'parallel', 'distilled'],
)
def test_finds_the_weights_of_the_network(checkpoint):
    weights = select_weights(checkpoint)
    assert list(weights) == ['head.fc.weight']
    assert torch.equal(weights['head.fc.weight'], torch.ones(2))


@pytest.mark.parametrize('checkpoint', [{}, {'epoch': 3}, {'model': None}, {'state_dict': {'lr': 0.1}}])
def test_refuses_what_holds_none(checkpoint):
    with pytest.raises(ValueError, match=r"holds no weights: expected \{'model': weights\}"):
        select_weights(checkpoint)


class RunsCode:
    """An object whose pickle creates a file when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.system, (f'touch "{self.trace}"',)


@pytest.fixture(params=['weights_only', 'unpickler of our own'])
def both_loaders(request, monkeypatch) -> None:
    """Run a test with the loader for torch 2.6 and later, and with that for older ones."""
    if request.param == 'weights_only' and digit_version('2.6.0') > TORCH:
        pytest.skip('this torch cannot allow HistoryBuffer under weights_only')
    monkeypatch.setattr(plain, '_safe_globals_take_names', lambda: request.param == 'weights_only')


@pytest.mark.usefixtures('both_loaders')
class TestFiles:
    def test_a_checkpoint_of_the_runner_loads(self, runner_checkpoint):
        checkpoint = load_checkpoint_file(runner_checkpoint)
        assert set(checkpoint) >= {'meta', 'state_dict', 'message_hub', 'optimizer'}
        history = checkpoint['message_hub']['log_scalars']['train/loss']
        assert isinstance(history, HistoryBuffer)
        assert history.data[0].shape == (4,)
        assert history.mean() == pytest.approx(history.data[0].mean())

    def test_a_bare_state_dict_loads(self, tmp_path):
        state = nn.BatchNorm2d(3).state_dict()
        torch.save(state, tmp_path / 'bare.pth')
        torch.testing.assert_close(dict(load_checkpoint_file(tmp_path / 'bare.pth')), dict(state))

    @pytest.mark.parametrize('zipped', [True, False])
    def test_a_hostile_pickle_does_not_run(self, tmp_path, zipped):
        trace, path = tmp_path / 'trace', tmp_path / 'hostile.pth'
        torch.save(dict(state_dict=RunsCode(trace)), path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"hostile\.pth' is refused: it wants (posix|nt)\.system called or built"):
            load_checkpoint_file(path)
        assert not trace.exists()
        with warnings.catch_warnings():  # the file does harm where nothing stops it
            warnings.simplefilter('ignore')
            torch.load(path, weights_only=False)
        assert trace.exists()

    def test_getattr_reaches_the_statistics_of_the_history_and_nothing_else(self, tmp_path):
        class Reaches:
            def __init__(self, obj, name):
                self.arguments = obj, name

            def __reduce__(self):
                return getattr, self.arguments

        torch.save(dict(method=Reaches(HistoryBuffer, 'mean')), tmp_path / 'good.pth')
        assert load_checkpoint_file(tmp_path / 'good.pth')['method'] is HistoryBuffer.mean
        for arguments in [(HistoryBuffer, '__init__'), (HistoryBuffer, '__globals__'), (dict, 'mean')]:
            torch.save(dict(method=Reaches(*arguments)), tmp_path / 'bad.pth')
            with pytest.raises(ValueError, match=r'is refused|is no checkpoint'):
                load_checkpoint_file(tmp_path / 'bad.pth')

    def test_an_unknown_class_is_refused_by_name(self, tmp_path):
        torch.save(dict(cfg=mmengine.Config(dict(a=1))), tmp_path / 'cfg.pth')
        with pytest.raises(ValueError, match=r'it wants mmengine\.config\.config\.Config called or built'):
            load_checkpoint_file(tmp_path / 'cfg.pth')

    @pytest.mark.parametrize(
        'content', [b'a text file\n', b'<!DOCTYPE html>', b'\x89PNG\r\n\x1a\n' + bytes(range(256)), b'\0']
    )
    def test_another_kind_of_file_is_no_checkpoint(self, tmp_path, content):
        (tmp_path / 'other.pth').write_bytes(content)
        with pytest.raises(ValueError, match=r"other\.pth' is no checkpoint, or a damaged one .*expected a file that"):
            load_checkpoint_file(tmp_path / 'other.pth')

    @pytest.mark.parametrize('zipped', [True, False])
    @pytest.mark.parametrize('fraction', [0.02, 0.5, 0.99])
    def test_a_truncated_file_is_called_truncated(self, tmp_path, zipped, fraction):
        path = tmp_path / 'cut.pth'
        torch.save(dict(weight=torch.ones(1000)), path, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[: int(fraction * path.stat().st_size)])
        with pytest.raises(
            ValueError, match=r"cut\.pth' is (cut off|no checkpoint, or a damaged one).*copy or download it"
        ):
            load_checkpoint_file(path)

    def test_a_flipped_bit_in_a_weight_is_found_by_its_checksum(self, tmp_path):
        path = tmp_path / 'flipped.pth'
        torch.save(dict(weight=torch.full((1000,), 0.25)), path)
        data = bytearray(path.read_bytes())
        data[data.index(np.float32(0.25).tobytes() * 10)] ^= 1
        path.write_bytes(data)
        assert not torch.equal(torch.load(path)['weight'], torch.full((1000,), 0.25))  # torch does not look
        with pytest.raises(ValueError, match=r"flipped\.pth' is damaged: the checksum of flipped/data/0 is wrong"):
            load_checkpoint_file(path)

    @pytest.mark.skipif(not hasattr(torch.serialization, 'set_crc32_options'), reason='this torch always has checksums')
    def test_a_file_without_checksums_loads(self, tmp_path):
        torch.serialization.set_crc32_options(False)
        try:
            torch.save(dict(weight=torch.ones(3)), tmp_path / 'fast.pth')
        finally:
            torch.serialization.set_crc32_options(True)
        assert load_checkpoint_file(tmp_path / 'fast.pth')['weight'].tolist() == [1, 1, 1]

    def test_a_config_that_mmengine_would_run_is_left_out(self, tmp_path):
        torch.save(dict(meta=dict(config='1 / 0', cfg='model = None')), tmp_path / 'old.pth')
        assert load_checkpoint_file(tmp_path / 'old.pth') == dict(meta=dict(cfg='model = None'))

    def test_a_single_tensor_is_no_checkpoint(self, tmp_path):
        torch.save(torch.ones(2), tmp_path / 'tensor.pth')
        with pytest.raises(ValueError, match='holds one Tensor; expected a dict of weights'):
            load_checkpoint_file(tmp_path / 'tensor.pth')


class TestLoader:
    def test_the_home_directory_is_expanded(self, runner_checkpoint, monkeypatch):
        monkeypatch.setenv('HOME', str(runner_checkpoint.parent))
        assert 'state_dict' in load_checkpoint_file('~/epoch_1.pth')

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no\.pth' does not exist; check the path"):
            CheckpointLoader.load_checkpoint(str(tmp_path / 'no.pth'))

    def test_a_folder(self, tmp_path):
        with pytest.raises(ValueError, match='is a folder; name the file in it'):
            load_checkpoint_file(tmp_path)

    def test_an_empty_file(self, tmp_path):
        (tmp_path / 'empty.pth').touch()
        with pytest.raises(ValueError, match=r"empty\.pth' is empty; copy or download it again"):
            load_checkpoint_file(tmp_path / 'empty.pth')

    @pytest.mark.parametrize('url', ['https://example.org/hostile.pth', 'http://example.org/hostile.pth'])
    def test_a_downloaded_pickle_does_not_run_either(self, tmp_path, monkeypatch, url):
        def download(url, path, progress):
            torch.save(RunsCode(tmp_path / 'trace'), path)

        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
        with pytest.raises(ValueError, match='system called or built while it loads'):
            CheckpointLoader.load_checkpoint(url, map_location='cpu')
        assert not (tmp_path / 'trace').exists()

    def test_a_download_is_made_once(self, tmp_path, monkeypatch):
        calls = []

        def download(url, path, progress):
            calls.append(url)
            torch.save(dict(weight=torch.ones(1)), path)

        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        for _ in range(2):
            checkpoint = load_url('https://example.org/a/model.pth?x=1', model_dir=str(tmp_path))
            assert checkpoint['weight'].item() == 1
        assert calls == ['https://example.org/a/model.pth?x=1']
        assert (tmp_path / 'model.pth').is_file()

    def test_a_failed_download_is_explained(self, tmp_path, monkeypatch):
        def download(url, path, progress):
            raise OSError('no route to host')

        monkeypatch.setattr(torch.hub, 'download_url_to_file', download)
        with pytest.raises(ValueError, match=r'cannot be downloaded \(no route to host\); check the address'):
            load_url('https://example.org/model.pth', model_dir=str(tmp_path))

    def test_the_unpickler_of_our_own_allows_what_torch_allows(self):
        assert restricted_loads(OrderedDict(a=1)) == OrderedDict(a=1)
        with pytest.raises(pickle.UnpicklingError, match=r'GLOBAL pathlib\S*'):
            restricted_loads(Path('x'))

    def test_the_unpickler_of_our_own_knows_plain_types_that_an_old_torch_does_not(self, monkeypatch):
        monkeypatch.setattr('torch._weights_only_unpickler._get_allowed_globals', dict)
        for value in [Counter('aab'), {1, 2}, 1j, bytearray(b'a'), b'a', torch.Size([2]), torch.device('cpu')]:
            assert restricted_loads(value) == value


def restricted_loads(obj):
    return RestrictedUnpickler(io.BytesIO(pickle.dumps(obj, protocol=2))).load()


class TestOneOfSeveralSetsOfWeights:
    @pytest.fixture
    def path(self, tmp_path):
        averaged = {'n_averaged': torch.tensor(2), 'module.weight': torch.ones(1)}
        torch.save({'model': {'weight': torch.zeros(1)}, 'model_ema': averaged, 'epoch': 3}, tmp_path / 'x.pth')
        return str(tmp_path / 'x.pth')

    def test_the_first_is_taken_where_none_is_named(self, path):
        assert select_weights(load_checkpoint_file(path)) == {'weight': torch.zeros(1)}

    @pytest.mark.parametrize('load', [load_checkpoint_file, CheckpointLoader.load_checkpoint])
    def test_the_one_that_is_named_is_taken_without_its_wrapper(self, path, load):
        loaded = load(f'{path}#model_ema')
        assert loaded == {'epoch': 3, 'state_dict': {'weight': torch.ones(1)}}
        assert select_weights(loaded) == {'weight': torch.ones(1)}

    def test_an_unknown_name_is_refused_with_the_known_names(self, path):
        with pytest.raises(ValueError, match="x.pth' holds no weights called 'ema'; it holds model, model_ema"):
            load_checkpoint_file(f'{path}#ema')

    def test_a_file_whose_name_has_the_sign_is_read(self, path, tmp_path):
        torch.save(WEIGHTS, tmp_path / 'x#1.pth')
        assert load_checkpoint_file(tmp_path / 'x#1.pth').keys() == WEIGHTS.keys()

    def test_each_set_has_its_own_digest(self, path):
        assert digest_of_file(f'{path}#model_ema') == f'{digest_of_file(path)}#model_ema'
