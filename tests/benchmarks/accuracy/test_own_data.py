"""The recipe benchmark compares methods on the seeds that they share."""

import own_data
import pytest

from r2kd_mm.photos.config import installed
from r2kd_mm.photos.options import METHODS


def test_the_table_pairs_students_and_seeds():
    accuracies = dict(
        resnet8=dict(alone=(70.0, 72.0, 74.0), kd=(71.0, 75.0)), vit=dict(alone=(60.0, 61.0), kd=(62.0, 66.0))
    )  # fmt: skip
    lines = [
        dict(run=['digits', student, method, seed], accuracy=value)
        for student, methods in accuracies.items()
        for method, values in methods.items()
        for seed, value in enumerate(values)
    ]
    rows = [[cell.strip() for cell in row.split('|')[2:8]] for row in own_data.to_markdown(lines).splitlines()[2:]]
    # half-widths: deviation times 12.706 / sqrt(2). Differences: 1 and 3; 2 and 5; their means 1.5 and 4
    assert rows == [
        ['resnet8', 'kd', '71.00', '73.00', '+2.00 [-10.71, +14.71]', '2'],
        ['vit', 'kd', '60.50', '64.00', '+3.50 [-15.56, +22.56]', '2'],
        ['mean', 'kd', '65.75', '68.50', '+2.75 [-13.13, +18.63]', '2'],
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
