"""Published teacher accuracies and data set sizes are known; a contents.json in the folder states other sizes."""

import pytest
import toolbox

from r2kd_mm.published import (
    PUBLISHED,
    TEACHERS,
    Contents,
    check_contents,
    expected_contents,
    published_teacher,
    write_contents,
)


def test_every_number_is_a_percentage_with_a_source():
    for name, teacher in TEACHERS.items():
        assert 50 < teacher.accuracy < 100, name
        assert teacher.source


def test_an_unknown_teacher_is_refused_with_the_closest_name():
    with pytest.raises(ValueError, match="no published accuracy of 'cifar100/resnet65' .* 'cifar100/resnet56'"):
        published_teacher('cifar100/resnet65')


def test_each_published_data_set_has_a_config_and_a_prepare_script():
    for key in PUBLISHED:
        assert (toolbox.ROOT / f'configs/_base_/datasets/{key}.py').is_file()
        assert (toolbox.ROOT / f'tools/dataset_converters/prepare_{key}.py').is_file()


def test_a_folder_that_states_nothing_holds_what_was_published(tmp_path):
    assert expected_contents('mit67', tmp_path) == Contents(67, dict(train=5360, test=1340))


def test_a_folder_holds_what_it_states(tmp_path):
    stated = Contents(2, dict(train=8, test=6))
    write_contents(stated, tmp_path)
    assert expected_contents('mit67', tmp_path) == stated


@pytest.mark.parametrize('text', ['{', '[]', '{"classes": 3}', '{"classes": 3, "images": {"train": 3, "val": 3}}'])
def test_an_unreadable_statement_is_shown_with_an_example(tmp_path, text):
    (tmp_path / 'contents.json').write_text(text)
    with pytest.raises(ValueError, match=r'contents.json must read like \{"classes": 67, .*, got ') as error:
        expected_contents('mit67', tmp_path)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(('classes', 'images'), [(3, 6), (2, 5), (2, 7)])
def test_other_numbers_are_refused(classes, images):
    expected = Contents(2, dict(train=8, test=6))
    check_contents(expected, 'test', 2, 6)
    with pytest.raises(ValueError, match=f'found {classes} classes and {images} test images, expected 2 and 6'):
        check_contents(expected, 'test', classes, images)
