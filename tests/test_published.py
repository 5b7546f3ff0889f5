import pytest

from r2kd_mm.published import TEACHERS, published_teacher


def test_every_number_is_a_percentage_with_a_source():
    for name, teacher in TEACHERS.items():
        assert 50 < teacher.accuracy < 100, name
        assert teacher.source


def test_an_unknown_teacher_is_refused_with_the_closest_name():
    with pytest.raises(ValueError, match="no published accuracy of 'cifar100/resnet65' .* 'cifar100/resnet56'"):
        published_teacher('cifar100/resnet65')
