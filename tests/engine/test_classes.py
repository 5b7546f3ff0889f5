"""Lists of class names that differ are refused; lists that cannot be compared pass."""

import pytest
from torch.utils.data import ConcatDataset, Dataset, Subset

from r2kd_mm.engine.classes import check_same_classes, classes_of


@pytest.mark.parametrize(
    ('known', 'given'),
    [(['a', 'b'], ('a', 'b')), (None, ['a']), (['a'], []), (['n01', 'n02'], ['cat', 'dog'])],
    ids=['the same', 'unknown', 'none', 'names of another kind'],
)
def test_classes_without_a_common_name_pass(known, given):
    check_same_classes(known, given, 'one and other')


@pytest.mark.parametrize(
    ('known', 'given', 'message'),
    [
        (['a', 'b'], ['b', 'a'], "2 and 2 classes, and number 0 is 'a' in the first and 'b' in the second; use the"),
        (['a', 'b'], ['a'], "2 and 1 classes, and number 1 is 'b' in the first and missing in the second"),
        (['n01'], ['cat', 'dog'], "1 and 2 classes, and number 0 is 'n01' in the first and 'cat' in the second"),
    ],
)
def test_other_classes_are_refused(known, given, message):
    with pytest.raises(ValueError, match=f'^one and other do not have the same classes in the same order: {message}'):
        check_same_classes(known, given, 'one and other')


class Named(Dataset):
    """Nothing but the names of its classes."""

    def __init__(self, *classes):
        self.metainfo = dict(classes=classes)

    def __len__(self):
        return 1


def test_the_classes_of_wrapped_data_come_from_the_inner_data():
    assert classes_of(Subset(ConcatDataset([Named('a', 'b'), Named('a', 'b')]), [0])) == ('a', 'b')
    assert classes_of(ConcatDataset([[0], [1]])) is None
    with pytest.raises(ValueError, match="two data sets that are joined .* number 0 is 'a' in the first and 'b' in"):
        classes_of(Subset(ConcatDataset([Named('a', 'b'), Named('b', 'a')]), [0]))
