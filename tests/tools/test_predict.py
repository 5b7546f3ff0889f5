"""predict.py names the likeliest classes, for a person and as JSON."""

import json

import exports
import pytest
import toolbox

from r2kd_mm.export import Predictor, export_student


@pytest.fixture(scope='module', params=['mmpretrain', 'torchscript'])
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


@pytest.mark.parametrize(
    ('which', 'message'),
    [
        ('no export', 'is no export: expected a folder with export.json'),
        ('no file', "no.png' does not exist"),
        ('no image', 'no image in'),
        ('broken', 'broken.png'),
    ],
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
