"""prune_teacher.py compares pruned copies with their classifier and writes them; after a mistake it writes nothing."""

import csv
import json
from importlib.metadata import version

import pytest
import toolbox
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from r2kd_mm.pruning import MagnitudePruner
from r2kd_mm.registry import MODELS
from r2kd_mm.report.prune_teacher import PRUNERS
from r2kd_mm.runs import accuracy, validation_logits

CONFIG = toolbox.ROOT / 'configs/supervised/res14_digits.py'


@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """The digits teacher after little training, its config, and the path of its weights."""
    folder = tmp_path_factory.mktemp('teacher')
    quick = ('--cfg-options', 'train_cfg.max_epochs=4', 'train_cfg.val_interval=4')
    finished = toolbox.run_forked('train.py', CONFIG, '--work-dir', folder, *quick)
    assert finished.returncode == 0, finished.stderr
    cfg = Config.fromfile(CONFIG)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        network = MODELS.build(cfg.model).eval()
    network.load_state_dict(torch.load(folder / 'epoch_4.pth', weights_only=False)['state_dict'])
    return network, cfg, folder / 'epoch_4.pth'


@pytest.fixture(scope='module')
def shown(teacher, tmp_path_factory):
    out = tmp_path_factory.mktemp('shown') / 'new'
    finished = toolbox.run_forked(
        'prune_teacher.py', CONFIG, teacher[2], '--out', out, '--amounts', '0.3', '0.1', '--save',
        '--pruners', 'magnitude', 'global', 'random', '2:4',
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    return out, finished.stdout


def test_the_numbers_are_those_of_the_pruned_networks(teacher, shown):
    network, cfg, _ = teacher
    with (shown[0] / 'table.csv').open() as file:
        rows = {(row['pruner'], float(row['amount'])): row for row in csv.DictReader(file)}
    assert list(rows) == [
        ('none', 0), ('magnitude', 0.1), ('magnitude', 0.3), ('global', 0.1), ('global', 0.3), ('random', 0.1),
        ('random', 0.3), ('2:4', 0.5),
    ]  # fmt: skip
    pruned, report = MagnitudePruner(0.3)(network)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        logits, labels = validation_logits(dict(full=network, pruned=pruned), cfg)
    row = {name: float(value) for name, value in rows['magnitude', 0.3].items() if name != 'pruner'}
    assert row['accuracy'] == pytest.approx(accuracy(logits['pruned'], labels))
    ensemble = 0.7 * logits['full'] + 0.3 * logits['pruned']
    assert row['ensemble_accuracy'] == pytest.approx(accuracy(ensemble, labels))
    assert row['sparsity'] == pytest.approx(report.sparsity)
    assert float(rows['none', 0]['agreement']) == 100
    assert float(rows['none', 0]['divergence']) == 0


def test_the_same_is_written_to_read_to_compute_with_and_to_look_at(shown):
    out, printed = shown
    table = (out / 'table.md').read_text()
    assert table in printed
    assert '| magnitude (R2KD) | 0.1 ' in table
    assert table.count('(R2KD)') == 1
    content = json.loads((out / 'table.json').read_text())
    assert len(content['rows']) == len(table.splitlines()) - 2
    assert content['environment']['versions']['torch'] == version('torch')
    assert Image.open(out / 'pruned.png').size[0] > 1000


def test_pruned_weights_are_written_and_the_rest_is_as_before(teacher, shown):
    network, _, _ = teacher
    weights = network.state_dict()
    matrices = {name for name, value in weights.items() if value.ndim >= 2}
    assert {path.name for path in shown[0].glob('*.pth')} == {
        'magnitude_0.1.pth', 'magnitude_0.3.pth', 'global_0.1.pth', 'global_0.3.pth', 'random_0.1.pth',
        'random_0.3.pth', '2-4_0.5.pth',
    }  # fmt: skip
    for scope in ('magnitude', 'global'):
        pruned = torch.load(shown[0] / f'{scope}_0.3.pth')['state_dict']
        assert pruned.keys() == weights.keys()
        lost = {name: int((pruned[name] == 0).sum()) for name in matrices}
        for name, value in weights.items():
            kept = (pruned[name] != 0) if name in matrices else torch.ones_like(value, dtype=torch.bool)
            assert torch.equal(pruned[name][kept], value[kept])
        equal_shares = all(count == round(0.3 * weights[name].numel()) for name, count in lost.items())
        assert equal_shares is (scope == 'magnitude')
        assert f'{sum(lost.values()):,} of' in shown[1]


@pytest.mark.slow
def test_of_a_view_with_mixed_labels_there_is_no_accuracy(teacher, tmp_path):
    finished = toolbox.run_forked(
        'prune_teacher.py', CONFIG, teacher[2], '--out', tmp_path / 'out', '--augmented', 'CutMix',
        '--pruners', 'magnitude', 'channels', '--amounts', '0.5',
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert 'accuracy' not in finished.stdout
    assert 'On the CutMix views of the validation images' in finished.stdout
    with (tmp_path / 'out/table.csv').open() as file:
        full, magnitude, channels = csv.DictReader(file)
    assert (full['accuracy'], full['agreement']) == ('', '100.0')  # all networks see the same view
    assert float(magnitude['divergence']) > 0
    assert float(channels['sparsity']) > 0.5  # a channel goes from two layers


@pytest.mark.slow
def test_pruners_that_nobody_asked_for_are_left_out_where_they_do_not_suit(tmp_path):
    config = toolbox.ROOT / 'configs/supervised/res6_digits.py'
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        torch.save(MODELS.build(Config.fromfile(config).model).state_dict(), tmp_path / 'student.pth')
    arguments = (config, tmp_path / 'student.pth', '--out', tmp_path / 'out', '--amounts', '0.1', '--save')
    finished = toolbox.run_forked('prune_teacher.py', *arguments)
    assert finished.returncode == 0, finished.stderr
    assert '2:4 is left out: 2:4 pruning needs a layer' in finished.stdout
    names = {f'{name}_0.1.pth' for name in ('magnitude', 'global', 'random')}
    assert {path.name for path in (tmp_path / 'out').glob('*.pth')} == names


@pytest.mark.parametrize(
    ('arguments', 'message'),
    toolbox.quick_first(
        [
            (['--amounts', '30'], 'amount is the fraction of weights to remove and must be in [0, 1), got 30.0'),
            (
                ['--pruners', 'magnitud'],
                "there is no pruner 'magnitud'; give some of magnitude, global, random, channels",
            ),
            (['--pruners', '4:2'], '1 <= n < m must hold, got n=4, m=2'),
            (['--pruners', '3:17'], '3:17 pruning needs a layer whose number of inputs is divisible by 17'),
            (['--pruners', 'channels', '--save'], 'weights without channels do not fit the config'),
            (['--augmented', 'CutMixx'], "unknown augmentation 'CutMixx'"),
            (['--cfg-options', 'val_dataloder=None'], "no run reads a field 'val_dataloder'"),
            (['--cfg-options', 'val_dataloader=None'], 'has no val_dataloader to take images from'),
            ('/no/such.pth', '/no/such.pth'),
        ]
    ),
)
def test_a_mistake_writes_nothing(teacher, arguments, message, tmp_path):
    checkpoint, arguments = (arguments, []) if isinstance(arguments, str) else (teacher[2], arguments)
    finished = toolbox.run_forked('prune_teacher.py', CONFIG, checkpoint, '--out', tmp_path / 'out', *arguments)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert 'Traceback' not in finished.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(teacher, tmp_path):
    (tmp_path / 'file').touch()
    out = tmp_path / 'file/out'
    finished = toolbox.run_forked(
        'prune_teacher.py', CONFIG, teacher[2], '--out', out, '--amounts', '0.1',
        '--cfg-options', 'val_dataloader.dataset.split=nonsense',
    )  # fmt: skip
    assert finished.returncode == 1
    assert f"error: folder '{out}' cannot be written (Not a directory); give another by --out" in finished.stderr


@pytest.mark.slow
def test_the_student_of_a_distillation_can_be_pruned(teacher, tmp_path):
    network, _, _ = teacher
    saved = {f'architecture.{name}': value for name, value in network.state_dict().items()}
    torch.save(dict(state_dict=saved), tmp_path / 'student.pth')
    cfg = Config.fromfile(CONFIG)
    cfg.model = dict(type='R2KD', architecture=cfg.model)
    cfg.dump(tmp_path / 'config.py')
    finished = toolbox.run_forked(
        'prune_teacher.py', tmp_path / 'config.py', tmp_path / 'student.pth', '--out', tmp_path / 'out',
        '--pruners', 'magnitude', '--amounts', '0.1',
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / 'out/table.md').is_file()


def test_the_help_names_every_pruner():
    finished = toolbox.run_forked('prune_teacher.py', '--help')
    words = {word.strip(',') for word in finished.stdout.split()}
    assert set(PRUNERS) | {'N:M', '2:4'} <= words
