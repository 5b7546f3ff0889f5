"""analyze.py writes one page, the same each time, or says in one line what is wrong."""

import csv
import os

import pytest
import run_folders
import toolbox


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """Folder of two methods, one with a teacher, and a log that was cut off."""
    folder = tmp_path_factory.mktemp('runs')
    teacher = run_folders.write_teacher(folder / 'elsewhere')
    run_folders.write_run(folder / 'runs/r2kd/seed_0', run_folders.R2KD, **{'model.teacher_ckpt': str(teacher)})
    alone = run_folders.write_run(folder / 'runs/alone')
    with next(alone.glob('*/vis_data/scalars.json')).open('a') as file:
        file.write('{"loss": 0.1, "st')
    return folder / 'runs'


def test_the_page_shows_all_runs(runs, tmp_path):
    finished = toolbox.run_forked(
        'analyze.py', runs, '--out', tmp_path, '--names', 'student', 'R2KD', '--images', '40', '--fast', '--open-no'
    )
    assert finished.returncode == 0, finished.stderr
    assert f'wrote {tmp_path}/index.html' in finished.stdout
    assert 'Loads checkpoint' not in finished.stdout
    with (tmp_path / 'summary.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['method'] for row in rows] == ['student', 'R2KD', 'teacher + pruned teacher']
    text = (tmp_path / 'index.html').read_text()
    assert '1 line of the logs could not be read.' in text
    assert 'Measured on 40 validation images of Digits' in text
    with (tmp_path / 'corruptions.csv').open() as file:
        kinds = {(row['corruption'], row['severity']) for row in csv.DictReader(file)}
    names = ('gaussian_noise', 'defocus_blur', 'snow', 'contrast')
    assert kinds == {('clean', '0')} | {(name, severity) for name in names for severity in '135'}
    assert {'accuracy.png', 'losses.csv', 'views_1.png'} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ('arguments', 'message'),
    toolbox.quick_first(
        [
            (['/no/such/run', '--out', 'page'], "'/no/such/run' is not a folder"),
            (['{runs}/alone', '--out', '{runs}/alone/last_checkpoint/page'], 'cannot be written'),
            (['{runs}', '--out', 'page', '--names', 'one'], '--names gives 1 names for 2 methods: alone, r2kd'),
        ]
    ),
)
def test_a_mistake_is_one_line(runs, tmp_path, arguments, message):
    os.chdir(tmp_path)
    finished = toolbox.run_forked('analyze.py', *(argument.format(runs=runs) for argument in arguments), '--open-no')
    assert finished.returncode == 1
    assert message in finished.stderr
    assert 'Traceback' not in finished.stderr


@pytest.mark.slow
def test_too_few_images_are_a_usage_error(runs, tmp_path):
    finished = toolbox.run_forked('analyze.py', runs, '--out', tmp_path, '--images', '1')
    assert finished.returncode == 2
    assert '--images must be at least 2, got 1' in finished.stderr
