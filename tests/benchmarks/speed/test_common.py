import argparse
import json
import statistics

import common
import pytest
import torch


def test_every_round_measures_each_case_once_and_begins_with_another():
    calls = []

    def case(name):
        return lambda: calls.append(name) or float(len(calls))

    times = common.interleaved({name: case(name) for name in 'abc'}, rounds=3)
    assert ''.join(calls) == 'abcbcacab'
    assert times == dict(a=[1.0, 6.0, 8.0], b=[2.0, 4.0, 9.0], c=[3.0, 5.0, 7.0])


def test_a_ratio_is_that_of_the_medians_with_the_quartiles_of_the_rounds():
    times, base = [2.0, 4.0, 9.0, 4.0, 5.0], [1.0, 2.0, 3.0, 4.0, 5.0]
    ratio = common.ratio(times, base)
    assert ratio['ratio'] == statistics.median(times) / statistics.median(base) == 4 / 3
    assert (ratio['q1'], ratio['q3']) == (1.0, 2.0)  # of 2, 2, 3, 1, 1


def test_one_value_is_its_own_median_and_quartiles():
    assert common.quartiles([3.0]) == dict(median=3.0, q1=3.0, q3=3.0)


def test_peak_memory_sees_what_is_freed_again_and_not_what_was_there_before():
    size = 64 * common.MIB
    kept = torch.ones(size, dtype=torch.uint8)
    peak = common.peak_extra_bytes(lambda: torch.ones(size, dtype=torch.uint8))
    assert peak == pytest.approx(size, rel=0.05)
    assert common.peak_extra_bytes(lambda: kept[0].item()) < 0.1 * size


def test_a_result_is_json_with_markdown_next_to_it(tmp_path, capsys):
    args = argparse.Namespace(out=tmp_path / 'new' / 'x.json', config='some.py')
    common.write_result(args, 'name', dict(ratio=0.5), common.table(['a', 'b'], [['1', '2']]))
    assert json.loads((tmp_path / 'new' / 'x.json').read_text()) == dict(ratio=0.5)
    assert (tmp_path / 'new' / 'x.md').read_text() == '| a | b |\n| --- | --- |\n| 1 | 2 |\n'
    assert '| 1 | 2 |' in capsys.readouterr().out


@pytest.mark.parametrize('text', ['0', '-1'])
def test_a_count_below_1_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f'must be at least 1, got {text}'):
        common.positive(text)


def test_a_result_says_where_it_was_measured():
    line = common.describe(dict(date='2026-11-30', gpu=None, versions=dict(python='3.11', torch='2.13')))
    assert line == 'date 2026-11-30, python 3.11, torch 2.13'
