"""The benchmark own_data.py compares a method with the student alone only on the seeds that both have."""

import own_data
import pytest

from r2kd_mm.photos.config import installed
from r2kd_mm.photos.options import METHODS


def test_the_table_pairs_students_and_seeds():
    accuracies = dict(
        resnet8=dict(alone=(70.0, 72.0, 74.0, 90.0), kd=(71.0, 75.0, 76.0)),
        vit=dict(alone=(60.0, 61.0, 62.0), kd=(63.0, 66.0, 66.0)),
    )
    lines = [
        dict(run=['digits', student, method, seed], accuracy=value)
        for student, methods in accuracies.items()
        for method, values in methods.items()
        for seed, value in enumerate(values)
    ]
    rows = [[cell.strip() for cell in row.split('|')[2:8]] for row in own_data.to_markdown(lines).splitlines()[2:]]
    # half-widths: deviation times 4.303 / sqrt(3). Differences: 1, 3 and 2; 3, 5 and 4; their means 2, 4 and 3
    assert rows == [
        ['resnet8', 'kd', '72.00', '74.00', '+2.00 [-0.48, +4.48]', '3'],
        ['vit', 'kd', '61.00', '65.00', '+4.00 [+1.52, +6.48]', '3'],
        ['mean', 'kd', '66.50', '69.50', '+3.00 [+0.52, +5.48]', '3'],
    ]


def test_seeds_are_one_or_a_range():
    assert list(own_data.seeds('3-5')) == [3, 4, 5]
    assert list(own_data.seeds('3')) == [3]


@pytest.mark.parametrize('name', sorted(own_data.CANDIDATES))
def test_a_candidate_changes_fields_that_its_method_has(name):
    method, changes = own_data.CANDIDATES[name]
    assert method in METHODS
    model = installed(f'methods/{method}')['model']
    for path in changes:
        _, *parents, field = path.split('.')
        fields = model
        for parent in parents:
            fields = fields[parent]
        assert field in fields or field in ('augmentation', 'loss_weight', 'task_loss_weight')
