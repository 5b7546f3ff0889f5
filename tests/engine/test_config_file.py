"""Config files: a misspelled field is refused, and an error names its file and line."""

import json
import textwrap

import pytest
from mmengine.config import Config

from r2kd_mm.engine.config_file import read_config
from r2kd_mm.engine.run_config import RUN_FIELDS

LAZY = 'from mmengine.optim import OptimWrapper\n'  # a class as its type makes MMEngine read the file lazily
TEXT = "model = dict(type='R2KD')\n"


@pytest.fixture
def read(tmp_path):
    """Read ``run.py``, or another name, next to the given files."""

    def read_files(name='run.py', **files):
        for stem, text in files.items():
            suffix = '' if stem != 'run' else name.removeprefix('run')
            (tmp_path / (stem + (suffix or '.py'))).write_text(textwrap.dedent(text))
        return read_config(str(tmp_path / name), RUN_FIELDS)

    return read_files


@pytest.mark.parametrize('style', [LAZY, TEXT], ids=['lazy', 'text'])
@pytest.mark.parametrize(
    ('line', 'meant'),
    [
        ('optim_wraper = dict(optimizer=dict(lr=1))', 'optim_wrapper'),
        ('custom_hook = []', 'custom_hooks'),
        ('train_config = dict(max_epochs=3)', 'train_cfg'),
        ('param_schedulers = []', 'param_scheduler'),
        ('load_form = "a.pth"', 'load_from'),
        ('val_evaluater = dict()\nval_evaluater.update(topk=(1,))\nval_evaluater["topk"] = (1, 5)', 'val_evaluator'),
        ('custom_hook, train_cfg = [], dict()\ncustom_hook += [dict(type="A")]', 'custom_hooks'),
    ],
)
def test_a_name_that_resembles_a_field_and_is_not_used_is_refused_with_the_field(read, style, line, meant):
    name = line.split()[0].strip(',')
    with pytest.raises(ValueError, match=rf"run.py', line 2: no run reads '{name}'.* did you mean '{meant}'\?"):
        read(run=style + line)


@pytest.mark.parametrize(
    ('name', 'text', 'line'),
    [
        ('run.json', '{\n "model": {},\n "optim_wraper": {"lr": 1}\n}', 3),
        ('run.yaml', 'model: {}\noptim_wraper:\n  lr: 1\n', 2),
    ],
)
def test_files_that_are_not_python_are_checked_as_well(read, name, text, line):
    with pytest.raises(ValueError, match=f"{name}', line {line}: no run reads 'optim_wraper'"):
        read(name, run=text)


@pytest.mark.parametrize(
    ('base', 'leaf'),
    [
        (LAZY, 'from mmengine.config import read_base\nwith read_base():\n    from .base import *\n'),
        (TEXT, "_base_ = ['base.py']\n"),
    ],
    ids=['lazy', 'text'],
)
class TestOfTwoFiles:
    def test_a_typo_in_the_base_is_found(self, read, base, leaf):
        with pytest.raises(ValueError, match="base.py', line 2: no run reads 'custom_hook'"):
            read(base=base + 'custom_hook = []', run=leaf)

    def test_a_variable_that_its_base_has_used_is_refused(self, read, base, leaf):
        with pytest.raises(ValueError, match="run.py', line .: 'ckpt' is set after the base has used it"):
            read(base=base + "ckpt = 'a.pth'\nload_from = ckpt", run=leaf + "ckpt = 'b.pth'")

    def test_one_that_the_leaf_uses_is_not(self, read, base, leaf):
        cfg = read(base=base + "ckpt = 'a.pth'\nload_from = ckpt", run=leaf + "ckpt = 'b.pth'\nload_from = ckpt")
        assert cfg.load_from == 'b.pth'

    def test_a_helper_of_the_base_that_nobody_uses_is_none_of_the_leafs_business(self, read, base, leaf, capsys):
        read(base=base + 'student = dict(a=1)\nresnet = dict(a=2)', run=leaf + 'launcher = str("none")')
        assert capsys.readouterr().err == ''

    def test_an_error_in_the_base_names_its_line(self, read, base, leaf):
        with pytest.raises(ValueError, match=r"^config '.*base.py', line 3: RuntimeError: no weights$"):
            read(base=base + "\nraise RuntimeError('no weights')", run=leaf)

    def test_a_syntax_error_in_the_base_names_its_line(self, read, base, leaf):
        with pytest.raises(ValueError, match=r"^config '.*base.py', line 2: SyntaxError: "):
            read(base=base + 'train_cfg = dict(', run=leaf)


@pytest.mark.parametrize('style', [LAZY, TEXT], ids=['lazy', 'text'])
@pytest.mark.parametrize(
    'lines',
    [
        'train_config = dict(max_epochs=3)\ntrain_cfg = train_config',
        'train_config = dict(max_epochs=3)\ntrain_cfg = dict(train_config, val_interval=3)',
        'optimizer = dict(lr=1)\noptim_wrapper = dict(optimizer=optimizer)',
        'models = [1, 2]\nfor number in models:\n    log_level = str(number)',
        'models = 3\ndef depth():\n    return models\ntrain_cfg = dict(max_epochs=depth())',
        'visualizers = [dict(type="A")]\nvisualizer = visualizers[0]',
        'student = dict(depth=18)\nmodel = dict(architecture=student)',
    ],
)
def test_a_helper_may_have_any_name(read, style, lines, capsys):
    read(run=style + lines)
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('style', [LAZY, TEXT], ids=['lazy', 'text'])
@pytest.mark.parametrize(
    'lines',
    [
        'train_config = dict(max_epochs=3)\ntrain_cfg = train_config',
        'optimizer = dict(lr=1)\noptim_wrapper = dict(optimizer=optimizer)',
        'student = dict(depth=18)\nmodel = dict(architecture=student)',
    ],
)
def test_the_config_that_a_run_writes_where_all_stands_by_value_can_be_read(read, style, lines, tmp_path, capsys):
    read(run=style + lines).dump(tmp_path / 'dumped.py')
    read_config(str(tmp_path / 'dumped.py'), RUN_FIELDS)
    assert capsys.readouterr().err == ''


def test_a_variable_of_the_base_used_by_its_template_is_a_helper(read):
    cfg = read(
        base=TEXT + 'train_config = dict(max_epochs=3)', run="_base_ = 'base.py'\ntrain_cfg = {{_base_.train_config}}"
    )
    assert cfg.train_cfg.max_epochs == 3


def test_a_field_of_mmcv_1_names_its_heir(read):
    with pytest.raises(ValueError, match="line 2: no run reads 'lr_config', .* its place is param_scheduler"):
        read(run=TEXT + "lr_config = dict(policy='step')")


def test_a_config_of_an_installed_package_is_not_refused_but_reported(tmp_path, capsys):
    """Some of mmpretrain's have variables that nothing reads."""
    (tmp_path / '.mim').mkdir()
    (tmp_path / '.mim/run.py').write_text(TEXT + 'data = dict(samples_per_gpu=64)')
    read_config(str(tmp_path / '.mim/run.py'), RUN_FIELDS)
    assert "line 2: no run reads 'data', a field of MMCV 1" in capsys.readouterr().err


def test_another_variable_that_nothing_uses_is_reported(read, capsys):
    read(run=TEXT + "note = 'second try'\nseed = 3\nrandomness = dict(seed=seed)")
    assert capsys.readouterr().err.endswith("run.py', line 2: nothing uses 'note'\n")


@pytest.mark.parametrize(
    ('line', 'said'),
    [
        ('from torch import ones; a = ones(2)', 'what a config imports is not there while it is read: it can be named'),
        ('raise RuntimeError("no weights")', 'RuntimeError: no weights'),
        ('train_cfg = dict(max_epochs=10 / 0)', 'ZeroDivisionError: division by zero'),
        ('train_cfg = unknown', "NameError: name 'unknown' is not defined"),
        ('train_cfg = (', r"SyntaxError: '\(' was never closed"),
    ],
)
@pytest.mark.parametrize('style', [LAZY, TEXT], ids=['lazy', 'text'])
def test_an_error_names_its_file_and_line(read, style, line, said):
    with pytest.raises(ValueError, match=rf"^config '.*run.py', line 4: {said}"):
        read(run=f'{style}\n\n{line}\n')


def test_a_file_that_is_missing_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError, match='none.py'):
        read_config(str(tmp_path / 'none.py'), RUN_FIELDS)


def test_a_written_config_reads_like_the_one_that_was_run(tmp_path):
    path = tmp_path / 'run.json'
    path.write_text(json.dumps(dict(model=dict(type='A'))))
    assert read_config(str(path), RUN_FIELDS).to_dict() == Config.fromfile(path).to_dict()


def test_a_config_anywhere_begins_with_those_of_the_installed_package(tmp_path):
    text = (
        'from mmengine.config import read_base\n\nwith read_base():\n'
        '    from r2kd_mm.configs.kd.kd_res14_res6_digits import *\n\ntrain_cfg.max_epochs = 7\n'
    )
    (tmp_path / 'mine.py').write_text(text)
    cfg = read_config(str(tmp_path / 'mine.py'), RUN_FIELDS)
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (7, 10)
    (tmp_path / 'mine.py').write_text(text + 'train_config = dict(max_epochs=7)\n')
    with pytest.raises(ValueError, match='train_config.*did you mean'):  # the bases are read here too
        read_config(str(tmp_path / 'mine.py'), RUN_FIELDS)
    (tmp_path / 'mine.py').write_text(text.replace('res14', 'res15'))
    with pytest.raises((ValueError, OSError), match='kd_res15_res6_digits'):
        read_config(str(tmp_path / 'mine.py'), RUN_FIELDS)
