"""predict.py names the most likely classes, as text or as JSON."""

import json
import re
import shutil

import exports
import pytest
import toolbox

from r2kd_mm.export import Predictor, export_student


@pytest.fixture(scope='module', params=['torchscript', pytest.param('mmpretrain', marks=pytest.mark.slow)])
def digits(request, tmp_path_factory):
    """An export, and a folder of three digits."""
    folder = tmp_path_factory.mktemp('digits')
    export_student(exports.write_checkpoint(folder / 'student.pth'), folder / 'export', request.param)
    exports.write_digits(folder / 'images')
    return folder / 'export', folder / 'images'


def test_json_has_each_image_and_its_top_classes(digits):
    export, images = digits
    finished = toolbox.run_forked('predict.py', export, images, '--top', '3', '--json')
    assert finished.returncode == 0, finished.stderr
    records = json.loads(finished.stdout)
    assert [record['image'] for record in records] == [str(images / f'{index}.png') for index in range(3)]
    predict = Predictor(export)
    for record in records:
        expected = [
            dict(name=best.name, index=best.index, probability=pytest.approx(best.probability))
            for best in predict(record['image'], top=3)
        ]
        assert record['predictions'] == expected


def test_a_person_reads_percentages(digits):
    export, images = digits
    finished = toolbox.run_forked('predict.py', export, images / '0.png', '--top', '2')
    first, second = Predictor(export)(images / '0.png', top=2)
    assert finished.stdout.splitlines() == [
        str(images / '0.png'),
        f'  {first.probability:7.2%}  {first.name}',
        f'  {second.probability:7.2%}  {second.name}',
    ]


@pytest.mark.parametrize('options', toolbox.quick_first([[], ['--json']]))
def test_a_broken_image_is_named_and_the_others_are_answered(digits, options, tmp_path):
    export, images = digits
    shutil.copytree(images, tmp_path / 'images')
    (tmp_path / 'images/1.png').write_bytes((images / '1.png').read_bytes()[:-20])
    finished = toolbox.run_forked('predict.py', export, tmp_path / 'images', '--top', '1', *options)
    assert finished.returncode == 1
    printed = json.loads(finished.stdout) if options else finished.stdout.splitlines()
    answered = [record['image'] for record in printed] if options else printed[::2]
    assert answered == [str(tmp_path / f'images/{index}.png') for index in (0, 2)]
    (error,) = [line for line in finished.stderr.splitlines() if line.startswith('error')]
    assert re.fullmatch(
        r"error: image '.*/1\.png' is truncated: the end is missing .* bytes; get the file again", error
    )


@pytest.mark.slow
def test_no_classes_at_all_are_a_usage_error(digits):
    finished = toolbox.run_forked('predict.py', *digits, '--top', '0')
    assert finished.returncode == 2
    assert '--top must be at least 1, got 0' in finished.stderr


@pytest.mark.parametrize(
    ('which', 'message'),
    toolbox.quick_first(
        [
            ('no export', 'is no export: expected a folder with export.json'),
            ('no file', "no.png' does not exist"),
            ('no image', 'no image in'),
            ('broken', 'broken.png'),
        ]
    ),
)
def test_a_mistake_is_one_line(digits, which, message, tmp_path):
    export, images = digits
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'broken.png').write_bytes(b'no image')
    arguments = {
        'no export': (images, images),
        'no file': (export, images / 'no.png'),
        'no image': (export, tmp_path / 'empty'),
        'broken': (export, tmp_path / 'broken.png'),
    }[which]
    finished = toolbox.run_forked('predict.py', *arguments)
    assert finished.returncode == 1
    assert message in finished.stderr
    assert 'Traceback' not in finished.stderr
