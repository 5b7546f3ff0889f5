"""The evidence benchmark: the methods of each table are compared fairly, and one command makes the table."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import conditions
import grid
import pytest
import torch
from mmengine.config import Config
from run import answer, parse_args

from r2kd_mm.registry import MODELS
from r2kd_mm.report.views import View
from r2kd_mm.runs import Method

SCALE = grid.SCALES['reduced']
RESULTS = Path(grid.__file__).parent / 'results'


def methods_of(question: grid.Question) -> list[Method]:
    checkpoints = {teacher: f'{teacher.name}.pth' for teacher in question.teachers}
    return question.methods(grid.Setting(SCALE, 'same-family', checkpoints, question.teachers[0]))


METHODS = {name: methods_of(question) for name, question in grid.QUESTIONS.items()}


def config_of(method) -> Config:
    cfg = Config.fromfile(method.config)
    cfg.merge_from_dict(dict(method.options))
    return cfg


@pytest.mark.parametrize('question', grid.QUESTIONS)
def test_every_student_of_a_table_sees_as_many_images(question):
    passes = {}
    for method in METHODS[question]:
        cfg = config_of(method)
        views = 1 if cfg.model.get('augmentation') is None else 2
        passes[method.name] = views * cfg.train_cfg.max_epochs * cfg.train_dataloader.dataset.size
        if method.name.endswith('half the passes'):
            passes[method.name] *= 2
    assert len(set(passes.values())) == 1, passes


@pytest.mark.parametrize('question', grid.QUESTIONS)
def test_all_of_a_table_share_data_teacher_and_the_baseline_is_among_them(question):
    methods = METHODS[question]
    assert grid.QUESTIONS[question].baseline in [method.name for method in methods]
    assert len({method.folder_name for method in methods}) == len(methods)
    configs = [config_of(method) for method in methods]
    for method, cfg in zip(methods, configs):
        batch_size = cfg.train_dataloader.pop('batch_size')
        assert batch_size == (32 if method.name.endswith('half batches') else 64), method.name
    assert len({str(cfg.train_dataloader) for cfg in configs}) == 1
    assert {cfg.test_dataloader.dataset.split for cfg in configs} == {'test'}
    assert {cfg.val_dataloader.dataset.split for cfg in configs} == {'val'}
    distilled = [cfg.model for cfg in configs if 'teacher' in cfg.model]
    assert {model.teacher_engine for model in distilled} == {'fast'}
    checkpoint_of = {teacher.width: f'{teacher.name}.pth' for teacher in grid.QUESTIONS[question].teachers}
    for model in distilled:
        taught_by = model.teacher.members.teacher if 'members' in model.teacher else model
        assert taught_by.teacher_ckpt == checkpoint_of[taught_by.teacher.backbone.base_channels]


def test_teachers_of_all_sizes_and_with_wrong_labels_can_be_trained():
    teachers = {teacher for question in grid.QUESTIONS.values() for teacher in question.teachers}
    assert len({teacher.training(SCALE).folder_name for teacher in teachers}) == len(teachers)
    for teacher in teachers:
        cfg = config_of(teacher.training(SCALE))
        assert MODELS.build(cfg.model)(torch.zeros(1, 3, 32, 32)).shape == (1, 100)
        assert cfg.train_dataloader.dataset.get('label_noise', 0) == teacher.label_noise


@pytest.mark.parametrize('share', [20, 40])
def test_student_and_teacher_have_the_same_wrong_labels(share):
    question = grid.QUESTIONS[f'wrong-labels-{share}']
    of_students = {str(config_of(method).train_dataloader.dataset) for method in methods_of(question)}
    assert of_students == {str(config_of(question.teachers[0].training(SCALE)).train_dataloader.dataset)}
    assert f"'label_noise': {share / 100}" in of_students.pop()


@pytest.mark.parametrize('question', grid.QUESTIONS)
def test_the_learning_rate_ends_at_zero_with_the_last_epoch(question):
    for method in METHODS[question]:
        cfg = config_of(method)
        assert cfg.param_scheduler[-1]['end'] == cfg.train_cfg.max_epochs
        assert cfg.param_scheduler[-1]['begin'] == cfg.param_scheduler[0].get('end', 0)


def test_each_part_differs_from_r2kd_in_what_its_row_names():
    rows = {method.name: config_of(method).model.to_dict() for method in METHODS['parts']}
    r2kd = rows.pop('R2KD')
    for name, model in rows.items():
        changed = {key for key in r2kd if model[key] != r2kd[key]}
        expected = name.split(':')[0].split()[-1]  # value, rank, pruned, view, term, teacher
        fields = {'value': 'losses', 'rank': 'losses', 'term': 'losses', 'teacher': 'pruner', 'view': 'augmentation'}
        if expected == 'pruned':
            assert changed | set(model) - set(r2kd) <= {'pruner', 'teacher_weight', 'pruned_teacher_mode'}, name
        else:
            assert changed == {fields[expected]}, name


def test_rows_are_images_and_columns_are_classes():
    value_of = {
        method.name: MODELS.build(config_of(method).model.losses.loss_value)
        for method in METHODS['parts']
        if method.name in ('R2KD', 'value: rows only', 'value: columns only')
    }
    student, teacher = torch.randn(2, 8, 100, dtype=torch.float64)
    whole, rows, columns = (loss(student, teacher) for loss in value_of.values())
    one_by_one = [value_of['value: rows only'](*pair) for pair in zip(student.split(1), teacher.split(1))]
    assert rows == pytest.approx(torch.stack(one_by_one).mean())
    assert columns == pytest.approx(whole - rows)
    assert columns != pytest.approx(rows)


def test_the_recipe_is_looked_for_among_the_parts():
    recipes, parts = ({method.name: method for method in METHODS[question]} for question in ('recipe', 'parts'))
    assert len(recipes) == 9
    assert recipes.keys() - parts.keys() == {'view: CutMixPick, value: centred', 'R2KD+', 'DIST'}
    together = config_of(recipes['view: CutMixPick, value: centred']).model
    pick, centred = (config_of(parts[name]).model for name in ('view: CutMixPick', 'value: centred'))
    assert (together.augmentation, together.losses) == (pick.augmentation, centred.losses)


def test_r2kd_plus_is_both_changes_to_r2kd_that_are_above_it():
    rows = {method.name: config_of(method).to_dict() for method in METHODS['recipe']}
    plus, one_view, train_mode = (rows[name] for name in ('R2KD+', 'view: none', 'pruned: train mode (released)'))
    assert plus.pop('model') == dict(
        one_view.pop('model'), pruned_teacher_mode=train_mode['model']['pruned_teacher_mode']
    )
    assert plus == one_view


def test_each_next_step_changes_what_its_row_names():
    rows = {method.name: config_of(method) for method in METHODS['next']}
    allowed = {
        # the members of the ensemble hold what R2KD has as fields of its own
        'pruned': {
            f'model.{key}' for key in ('type', 'teacher', 'teacher_ckpt', 'weighting', 'pruner', 'teacher_weight')
        },
        'value': {'model.losses'},
        'rank': {'model.losses'},
        'terms': {'model.losses'},
        'R2KD, half batches': {'train_dataloader'},
        'R2KD, gradients up to 20': {'optim_wrapper'},
        'view: let in slowly': {'custom_hooks'},
        'view: AutoAugment (SVHN)': {'model.augmentation'},
        'view: AutoAugment (SVHN), consistent': {'model.augmentation', 'model.consistency'},
    }
    for name, cfg in rows.items():
        if name in ('DIST', 'R2KD', 'view: none'):
            continue
        one_view = name.startswith('view: none, ')
        part = name.removeprefix('view: none, ').split(':')[0] if one_view else name
        base = rows['view: none' if one_view else 'R2KD'].to_dict()
        row = cfg.to_dict()
        changed = {key for key in base if key != 'model' and row[key] != base[key]}
        for key in base['model'].keys() | row['model'].keys():
            if row['model'].get(key) != base['model'].get(key):
                changed.add(f'model.{key}')
        assert changed, name
        assert changed <= allowed[part], name
        assert one_view or changed == allowed[part], name


def test_the_warm_up_of_dkd_is_the_share_that_its_authors_took():
    dkd = next(method for method in METHODS['methods'] if method.name == 'DKD')
    (ramp,) = [value for key, value in dkd.options.items() if key.endswith('.ramp')]
    assert ramp == round(20 / 240 * dkd.options['train_cfg.max_epochs'])


@pytest.mark.slow
def test_a_question_is_answered(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    question = grid.Question(lambda setting: [setting.distilled('KD', 'kd', 2), setting.r2kd('R2KD')], 'KD')
    monkeypatch.setitem(grid.QUESTIONS, 'methods', question)
    monkeypatch.setattr(conditions, 'CORRUPTED_IMAGES', 100)
    command = [
        'run.py',
        'methods',
        '--scale',
        'tiny',
        '--seeds',
        '0',
        '1',
        '--runs',
        'runs',
        '--out',
        'out',
        '--records',
        'records',
    ]
    monkeypatch.setattr('sys.argv', command)
    with pytest.raises(SystemExit, match='no finished teacher'):
        conditions.main()
    assert answer(parse_args()) == 0
    out = Path('out/methods_same-family_tiny')
    results = json.loads((out / 'results.json').read_text())
    assert [method['name'] for method in results['methods']] == ['KD', 'R2KD']
    assert set(results['methods'][0]['runs']['0']['test']) == {'last', 'best'}
    table = (out / 'table.md').read_text()
    assert 'test, last epoch' in table
    assert '| teacher' in table
    assert {path.name for path in out.iterdir()} == {'table.md', 'results.json', 'accuracy.png', 'differences.png'}

    shutil.rmtree('out')
    capsys.readouterr()
    assert answer(parse_args()) == 0
    assert '4 of 4 runs are finished' in capsys.readouterr().out
    assert (out / 'table.md').read_text() == table

    conditions.main()
    found = json.loads((out / 'conditions.json').read_text())['accuracy']
    assert set(found) == {'KD', 'R2KD', 'teacher'}
    for method in results['methods']:
        for seed, run in method['runs'].items():
            assert found[method['name']]['test'][seed] == pytest.approx(run['last'])
            thirds = [found[method['name']][third][seed] for third in conditions.BINS]
            assert sum(thirds) / 3 == pytest.approx(run['last'], abs=2)  # thirds of 100 images: 34, 33 and 33
    augmented = ['augmented', *(f'augmented, {part}' for part in conditions.BINS)]
    expected = ['test', *conditions.BINS, *augmented, 'unseen fonts', 'noise', 'blur', 'weather', 'digital']
    assert list(found['KD']) == expected
    assert '| R2KD - KD' in (out / 'conditions.md').read_text()

    shutil.rmtree('runs')  # the records are left
    capsys.readouterr()
    assert answer(parse_args()) == 0
    assert '4 of 4 runs are recorded' in capsys.readouterr().out
    assert (out / 'table.md').read_text() == table
    with pytest.raises(SystemExit, match='recorded without its weights'):
        conditions.main()


@pytest.mark.parametrize('folder', sorted(path.parent.name for path in RESULTS.glob('*/table.md')))
def test_one_page_shows_every_table_as_it_was_measured_and_its_command(folder):
    texts = [page.read_text() for page in (RESULTS.parents[3] / 'docs/measurements').glob('*.md')]
    (page,) = [text for text in texts if (RESULTS / folder / 'table.md').read_text() in text]
    assert f'benchmarks/accuracy/evidence/results/{folder}/results.json' in page
    question, pair, scale = folder.split('_')
    command = f'run.py {question} --scale {scale}' + (f' --pair {pair}' if pair != 'same-family' else '')
    assert re.search(rf'^python benchmarks/accuracy/evidence/{command} ', page, re.MULTILINE)


def test_the_readme_shows_the_main_table():
    """Two of its columns: the accuracy after the last epoch, and the difference to KD."""
    readme = (RESULTS.parents[3] / 'README.md').read_text()
    shown = {tuple(cell.strip() for cell in row.split('|')[1:-1]) for row in readme.splitlines() if row[:1] == '|'}
    table = (RESULTS / 'ends_same-family_hard/table.md').read_text().splitlines()
    rows = [[cell.strip() for cell in row.split('|')[1:-1]] for row in table]
    methods = [(row[0], row[1], row[3]) for row in rows[2:] if row[0] not in ('R2KD+', 'teacher', 'all')]
    assert len(methods) == 6
    assert set(methods) <= shown


# methods that differ by teacher or labels alone stand for each other
@pytest.mark.parametrize(
    ('question', 'rows'),
    [('teachers', slice(0, None, 4)), ('wrong-labels-20', slice(1, None, 3)), ('next', slice(None))],
)
@pytest.mark.slow
def test_every_kind_of_method_can_be_trained(question, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = grid.QUESTIONS[question]
    monkeypatch.setitem(grid.QUESTIONS, question, replace(asked, methods=lambda setting: asked.methods(setting)[rows]))
    command = [
        'run.py',
        question,
        '--scale',
        'tiny',
        '--seeds',
        '0',
        '--runs',
        'runs',
        '--out',
        'out',
        '--records',
        'records',
    ]
    monkeypatch.setattr('sys.argv', command)
    assert answer(parse_args()) == 0
    table = Path(f'out/{question}_same-family_tiny/table.md').read_text()
    for row in (*grid.QUESTIONS[question].teachers, *methods_of(grid.QUESTIONS[question])):
        assert f'| {row.name} ' in table


def test_one_condition_does_not_change_the_next():
    cfg = config_of(METHODS['methods'][0])
    before = str(cfg)
    assert conditions._of_images(cfg, split='shifted').val_dataloader.dataset.split == 'shifted'
    assert str(cfg) == before


def test_every_network_sees_the_same_augmented_view():
    preprocessor = MODELS.build(config_of(METHODS['methods'][0]).data_preprocessor)
    images = torch.randn(8, 3, 32, 32)
    view, again = (View(conditions.AUGMENTATION, torch.nn.Identity(), preprocessor) for _ in range(2))
    seen = [view.ask(lambda images, mode: images, images, mode='tensor') for _ in range(2)]
    assert torch.equal(*seen)
    assert not torch.equal(seen[0], images)
    assert torch.equal(again.ask(lambda images, mode: images, images, mode='tensor'), seen[0])
    other = view.ask(lambda images, mode: images, images.clone(), mode='tensor')
    assert not torch.equal(other, seen[0])
