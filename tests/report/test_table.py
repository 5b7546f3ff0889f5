"""The rows, the Markdown table and the JSON file of a comparison have the right numbers."""

import json

import numpy as np
import pytest

from r2kd_mm.environment import environment
from r2kd_mm.report import make_rows, to_markdown, write_results
from r2kd_mm.runs import Method, Result

KD, R2KD, BROKEN = (Method(name, f'configs/{name}.py') for name in ('kd', 'r2kd', 'broken'))


def result(*accuracy: float, epochs: tuple[int, ...] = (1, 2, 3)) -> Result:
    return Result(list(epochs), list(accuracy), {}, 1.0)


@pytest.fixture
def results():
    return {
        KD: {0: result(10, 30, 20), 1: result(10, 20, 30)},
        R2KD: {0: result(10, 50, 40), 1: result(10, 60, 54)},
        BROKEN: {},
    }


def test_the_table_shows_last_and_best_epoch_and_the_paired_difference(results):
    lines = to_markdown(make_rows(results, 'kd'), 'kd', teachers=dict(teacher=94.257)).splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells[2] == ['kd', '25.00 ± 7.07', '30.00 ± 0.00', 'baseline', '2']
    assert cells[3][:3] == ['r2kd', '47.00 ± 9.90', '55.00 ± 7.07']
    assert cells[3][3] == '+22.00 [2 seeds]'
    assert cells[4] == ['teacher', '94.26', '', '', '']
    assert make_rows(results, 'kd')[0].difference is None  # of the baseline to itself


def test_a_method_without_a_result_is_left_out(results):
    assert [row.method.name for row in make_rows(results)] == ['kd', 'r2kd']


def test_a_difference_says_on_how_many_seeds_it_rests_where_the_baseline_lacks_some(results):
    results[R2KD] |= {2: result(10, 40, 40), 3: result(10, 40, 40)}
    assert '| +22.00 [2 seeds] ' in to_markdown(make_rows(results, 'kd'), 'kd')
    results[KD][2] = result(10, 40, 40)
    assert '] (3 seeds)' in to_markdown(make_rows(results, 'kd'), 'kd').splitlines()[3]
    results[KD][3] = result(10, 40, 40)
    assert ' seeds)' not in to_markdown(make_rows(results, 'kd'), 'kd')


def test_without_a_baseline_there_is_no_difference(results):
    assert 'points' not in to_markdown(make_rows(results))


def test_an_unknown_baseline_is_refused(results):
    with pytest.raises(ValueError, match="--baseline 'kdd' is none of the methods that are compared: kd, r2kd, broken"):
        make_rows(results, 'kdd')


def test_curves_hold_the_epochs_that_all_seeds_measured():
    row = make_rows({KD: {0: result(1, 2, 3), 1: result(5, 6, epochs=(2, 3))}})[0]
    epochs, curves = row.curve
    assert epochs == [2, 3]
    assert np.array_equal(curves, [[2, 3], [5, 6]])


def test_the_json_file_holds_every_run_and_the_environment(results, tmp_path):
    write_results(tmp_path / 'results.json', make_rows(results, 'kd'), 'kd')
    content = json.loads((tmp_path / 'results.json').read_text())
    r2kd = content['methods'][1]
    run = r2kd['runs']['1']
    assert (run['epochs'], run['accuracy'], run['last'], run['best']) == ([1, 2, 3], [10, 60, 54], 54, 60)
    assert r2kd['difference']['mean'] == 22
    assert content['baseline'] == 'kd'
    assert content['environment'].keys() == environment().keys()


def test_where_there_is_a_test_set_the_table_is_about_that(results):
    def tested(last: float, best: float) -> Result:
        return Result([1, 2], [99.0, 1.0], {}, 1.0, cpu_seconds=1800.0, test=dict(last=last, best=best))

    rows = make_rows({KD: {0: tested(20, 30), 1: tested(22, 32)}, R2KD: {0: tested(40, 50), 1: tested(42, 52)}}, 'kd')
    lines = to_markdown(rows, 'kd').splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells[0][1:3] == ['test, last epoch, %', 'test, epoch chosen by validation, %']
    assert cells[3][1:4] == ['41.00 ± 1.41', '51.00 ± 1.41', '+20.00 [2 seeds]']
    assert cells[4] == ['all', '2.00 processor hours', '', '', '4 runs']


def test_the_compute_is_left_out_where_a_run_does_not_know_it(results):
    assert 'processor hours' not in to_markdown(make_rows(results))
