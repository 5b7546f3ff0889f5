"""The command `r2kd-mm distill` exports a student; a second call trains nothing; its configs give the same result."""

import itertools
import json
import shutil

import numpy as np
import pytest
import toolbox
from PIL import Image

pytest.importorskip('timm', reason='the networks of this test are those of timm')

pytestmark = pytest.mark.slow
NETWORKS = ('--teacher', 'timm/test_resnet', '--student', 'timm/test_efficientnet')
SMALL = (
    '--teacher-init', 'none', '--student-init', 'none', '--epochs', '10', '--batch-size', '16',
    '--image-size', '40', '--teacher-image-size', '48', '--workers', '0', '--no-page',
)  # fmt: skip


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Folders of classes, without a validation folder."""
    folder = tmp_path_factory.mktemp('photos')
    made = toolbox.run_forked(
        'dataset_converters/make_mini.py', 'imagenet', folder / 'mini', '--classes', '3', '--train', '32', '--val', '1'
    )
    assert made.returncode == 0, made.stderr
    return shutil.move(folder / 'mini' / 'train', folder / 'photos')


@pytest.fixture(scope='module')
def out(photos, tmp_path_factory):
    """The folder that the command wrote."""
    folder = tmp_path_factory.mktemp('out') / 'run'
    done = toolbox.run_forked('distill.py', photos, *NETWORKS, *SMALL, '--out', folder, '--format', 'torchscript')
    assert done.returncode == 0, done.stderr
    assert '| student distilled ' in done.stdout
    assert '| teacher on the view of the student ' in done.stdout
    return folder


def result(folder):
    return json.loads((folder / 'result.json').read_text())


def test_it_leaves_a_student_its_configs_and_a_table(out):
    assert {path.name for path in out.iterdir()} >= {'configs', 'data', 'distill.json', 'export', 'runs', 'table.md'}
    assert (out / 'export' / 'torchscript' / 'README.md').is_file()
    for name in ('teacher', 'student_alone', 'student_distilled'):
        assert (out / 'runs' / name / 'seed_0' / 'epoch_10.pth').is_file()
    assert len((out / 'data' / 'meta' / 'val.txt').read_text().splitlines()) == 18  # a fifth of 96 photos
    assert result(out / 'runs' / 'teacher' / 'seed_0')['accuracy'][-1] > 60


def test_a_second_call_trains_nothing_and_adds_what_is_new(out, photos):
    checkpoint = out / 'runs' / 'student_distilled' / 'seed_0' / 'epoch_10.pth'
    written = checkpoint.stat().st_mtime_ns
    done = toolbox.run_forked(
        'distill.py', photos, *NETWORKS, *SMALL, '--out', out, '--format', 'torchscript', 'exported'
    )
    assert done.returncode == 0, done.stderr
    assert '2 of 2 runs are finished and are not repeated' in done.stdout
    assert checkpoint.stat().st_mtime_ns == written
    assert (out / 'export' / 'exported').is_dir()


def test_tools_train_gives_the_same_result_from_the_config_of_a_stage(out, tmp_path):
    done = toolbox.run_forked('train.py', out / 'configs' / 'student_distilled.py', '--work-dir', tmp_path / 'again')
    assert done.returncode == 0, done.stderr
    scalars = next((tmp_path / 'again').glob('*/vis_data/scalars.json')).read_text().splitlines()
    accuracies = [row['accuracy/top1'] for row in map(json.loads, scalars) if 'accuracy/top1' in row]
    assert accuracies == result(out / 'runs' / 'student_distilled' / 'seed_0')['accuracy']


def test_two_teachers_are_asked_once_for_each_image(out, photos, tmp_path):
    """The first is that of the other call; the second is fine-tuned. Both are replayed, by tools/train.py too."""
    given = (
        '--teacher-ckpt', out / 'runs' / 'teacher' / 'seed_0' / 'epoch_10.pth', '--teacher', 'r2kd/cifar/resnet8',
        '--teacher-ckpt', 'none', '--teacher-image-size', '32', '--replay', '2', '--no-baseline', '--format',
    )  # fmt: skip
    folder = tmp_path / 'run'
    done = toolbox.run_forked('distill.py', photos, *NETWORKS, *SMALL, *given, '--out', folder)
    assert done.returncode == 0, done.stderr
    assert '| teacher 2 on the view of the student ' in done.stdout
    run = folder / 'runs' / 'student_distilled' / 'seed_0'
    found = result(run)
    first, second = found['teachers']['teacher'], found['teachers']['teacher_2']
    assert f'| teacher on the view of the student   | {first:.2f}' in done.stdout
    assert second > 45  # and a third is a guess
    assert '2 of 2 rounds' not in next(run.glob('2*/*.log')).read_text()

    config = folder / 'configs' / 'student_distilled.py'
    again = toolbox.run_forked('train.py', config, '--work-dir', tmp_path / 'again')
    assert again.returncode == 0, again.stderr
    log = next((tmp_path / 'again').glob('2*/*.log')).read_text()
    assert '2 of 2 rounds are complete' in log
    scalars = next((tmp_path / 'again').glob('*/vis_data/scalars.json')).read_text().splitlines()
    assert [row['accuracy/top1'] for row in map(json.loads, scalars) if 'accuracy/top1' in row] == found['accuracy']


def test_three_photos_of_each_class_are_enough(tmp_path):
    rng = np.random.default_rng(0)
    for part, label, index in itertools.product(('train', 'val'), (0, 2), range(3)):
        pixels = rng.integers(0, 90, (40, 40, 3), dtype=np.uint8)
        pixels[..., label] += 160  # red or blue
        folder = tmp_path / 'photos' / part / ('red', '', 'blue')[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f'{index}.png')
    small = ('--epochs', '20', '--batch-size', '6', '--workers', '0', '--no-page', '--teacher-lr', '2e-3')
    small += ('--teacher-init', 'none', '--student-init', 'none')
    networks = ('--teacher', 'r2kd/cifar/resnet14', '--student', 'r2kd/cifar/resnet8')
    out = tmp_path / 'out'
    done = toolbox.run_forked('distill.py', tmp_path / 'photos', *networks, *small, '--out', out)
    assert done.returncode == 0, done.stderr
    assert '6 validation images say little: an accuracy of 50 % has the 95 % interval [19, 81]' in done.stdout
    assert result(out / 'runs' / 'teacher' / 'seed_0')['accuracy'][-1] > 80
    assert (out / 'export' / 'torchscript' / 'README.md').is_file()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--epochs', '11'), 'holds another run: epochs: 10 there, 11 now'),
        (('--teacher', 'timm/resnet19'), 'holds another run: teacher:'),
    ],
)
def test_another_run_in_its_folder_is_refused(out, photos, arguments, message):
    done = toolbox.run_forked('distill.py', photos, *NETWORKS, *SMALL, *arguments, '--out', out)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2].startswith('error: ')
    assert message in done.stderr
