"""The recipe benchmark compares methods on the seeds that they share."""

import own_data
import pytest

from r2kd_mm.photos.config import installed
from r2kd_mm.photos.options import METHODS


def test_the_table_pairs_the_seeds():
    accuracies = dict(alone=(70.0, 72.0, 74.0), kd=(71.0, 75.0))
    lines = [
        dict(run=['digits', 'resnet8', method, seed], accuracy=value)
        for method, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    cells = [cell.strip() for cell in own_data.to_markdown(lines).splitlines()[3].split('|')]
    assert cells[3:5] == ['kd', '73.00']
    # the differences are 1 and 3: mean 2, deviation sqrt(2), times 12.706 / sqrt(2)
    assert cells[5:7] == ['+2.00 [-10.71, +14.71]', '2']


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
