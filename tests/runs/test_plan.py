"""Runs are planned: every method with every seed, each in a folder of its own."""

import pytest

from r2kd_mm.runs import Method, plan_runs


def test_every_method_meets_every_seed_seed_by_seed(tmp_path):
    runs = plan_runs([Method('a, b', 'a.py'), Method('c', 'c.py')], [3, 1], tmp_path)
    assert [str(run) for run in runs] == ['a, b, seed 3', 'c, seed 3', 'a, b, seed 1', 'c, seed 1']
    assert runs[0].folder == tmp_path / 'a_b' / 'seed_3'


@pytest.mark.parametrize(
    ('names', 'seeds', 'message'),
    [
        (['a'], [0, 1, 0], '--seeds 0 is given twice'),
        (['a'], [-1], 'a seed must be >= 0, got -1'),
        (['a', 'b', 'a'], [0], "2 configs have the name 'a': x0/a.py, x2/a.py"),
        ([], [0], 'at least one config'),
    ],
)
def test_what_cannot_be_compared_is_refused(names, seeds, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plan_runs([Method(name, f'x{index}/{name}.py') for index, name in enumerate(names)], seeds, tmp_path)
