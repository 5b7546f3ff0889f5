"""convert_zoo_checkpoint.py renames all weights of a checkpoint, or says in one line why it cannot."""

import pytest
import toolbox
import torch

from r2kd_mm import zoo

TOOL = 'model_converters/convert_zoo_checkpoint.py'
NAME = 'cifar/resnet8'


@pytest.fixture(scope='module')
def ours():
    return zoo.build_classifier(NAME).state_dict()


@pytest.fixture
def public(ours, tmp_path):
    """A public checkpoint on disk."""
    path = tmp_path / 'public.pth'
    torch.save({'model': zoo.revert_state_dict(NAME, ours), 'epoch': 240}, path)
    return path


def assert_refused(finished, *messages):
    assert finished.returncode == 1
    assert finished.stderr.startswith('error: ')
    assert 'Traceback' not in finished.stderr
    for message in messages:
        assert message in finished.stderr


def test_there_and_back_again(public, ours, tmp_path):
    converted, back = tmp_path / 'new/converted.pth', tmp_path / 'back.pth'
    finished = toolbox.run_forked(TOOL, NAME, public, converted)
    assert finished.returncode == 0, finished.stderr
    assert f'{NAME}: {len(ours)} tensors' in finished.stdout
    assert str(public) in finished.stdout
    assert str(converted) in finished.stdout
    weights = torch.load(converted)['state_dict']
    assert weights.keys() == ours.keys()
    assert all(torch.equal(weights[key], ours[key]) for key in ours)

    finished = toolbox.run_forked(TOOL, NAME, converted, back, '--reverse')
    assert finished.returncode == 0, finished.stderr
    expected, reverted = torch.load(public)['model'], torch.load(back)['model']
    assert list(reverted) == list(expected)
    assert all(torch.equal(reverted[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_an_existing_file_is_replaced_only_with_force(public, tmp_path):
    target = tmp_path / 'taken.pth'
    target.write_bytes(b'precious')
    assert_refused(toolbox.run_forked(TOOL, NAME, public, target), str(target), 'exists', '--force')
    assert target.read_bytes() == b'precious'
    assert toolbox.run_forked(TOOL, NAME, public, target, '--force').returncode == 0
    assert 'state_dict' in torch.load(target)


@pytest.mark.slow
def test_another_number_of_classes(tmp_path):
    weights = zoo.revert_state_dict(NAME, zoo.build_classifier(NAME, 5).state_dict(), 5)
    torch.save(weights, tmp_path / 'five.pth')
    assert_refused(
        toolbox.run_forked(TOOL, NAME, tmp_path / 'five.pth', tmp_path / 'out.pth'), 'fc.weight', '(100, 64)', '(5, 64)'
    )
    finished = toolbox.run_forked(TOOL, NAME, tmp_path / 'five.pth', tmp_path / 'out.pth', '--num-classes', '5')
    assert finished.returncode == 0, finished.stderr


class Dangerous:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.mark.slow
def test_each_mistake_is_named_and_nothing_is_written(public, tmp_path):
    target = tmp_path / 'out.pth'
    poisoned, text = tmp_path / 'poisoned.pth', tmp_path / 'notes.txt'
    torch.save({'model': Dangerous(tmp_path / 'harmed')}, poisoned)
    text.write_text('accuracy 75.6')
    torch.save({'epoch': 3}, tmp_path / 'empty.pth')
    for arguments, messages in [
        (('cifar/resnet9', public, target), ["no network 'cifar/resnet9'", "'cifar/resnet8'"]),
        (('cifar/vgg8', public, target), ["not the weights of 'cifar/vgg8'", "'block0.0.weight'", "'conv1.weight'"]),
        ((NAME, public, target, '--reverse'), ["'backbone.conv1.conv.weight'", 'got none']),
        ((NAME, tmp_path / 'missing.pth', target), ['missing.pth', 'does not exist']),
        ((NAME, text, target), ['notes.txt', 'no checkpoint']),
        ((NAME, poisoned, target), ['poisoned.pth', 'refused']),
        ((NAME, tmp_path / 'empty.pth', target), ['holds no weights', "['epoch']"]),
        ((NAME, public, tmp_path), [str(tmp_path), 'is a folder']),
    ]:
        assert_refused(toolbox.run_forked(TOOL, *arguments), *messages)
    assert not target.exists()
    assert not (tmp_path / 'harmed').exists()
    assert not list(tmp_path.glob('*.tmp'))
