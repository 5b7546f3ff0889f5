import argparse
import json
import statistics
from types import SimpleNamespace

import pytest
import step_time
import toolbox
import torch

SCRIPT = '../benchmarks/step_time.py'
CONFIG = toolbox.ROOT / 'configs' / 'r2kd' / 'r2kd_res14_res6_digits.py'
FLOOR = 'student alone, float32 channels_last'


def run(out, *ours):
    """Measure on a few digits."""
    return toolbox.run_forked(
        SCRIPT, CONFIG, '--image-size', '8', '--batch-size', '4', '--rounds', '3', '--out', out, '--ours', *ours
    )


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp('benchmark') / 'step.json'
    finished = run(out, 'exact', 'fast', 'replay')
    assert finished.returncode == 0, finished.stderr
    assert out.with_suffix('.md').read_text() in finished.stdout
    return json.loads(out.read_text())


@pytest.mark.slow
def test_every_case_is_measured_in_every_round(result):
    assert set(result['cases']) == {
        step_time.PUBLISHED,
        'exact',
        'fast',
        'replay',
        FLOOR,
        'student alone, bf16 channels_last',
        step_time.MMRAZOR,
    }
    for case in result['cases'].values():
        assert len(case['seconds']) == 3
        assert case['median'] == statistics.median(case['seconds'])
        assert min(case['seconds']) > 0


@pytest.mark.slow
def test_ratios_are_those_of_the_medians(result):
    cases = result['cases']
    for name, case in cases.items():
        assert case['to_published']['ratio'] == case['median'] / cases[step_time.PUBLISHED]['median']
        if name in result['floors']:
            assert case['to_student']['ratio'] == case['median'] / cases[result['floors'][name]]['median']
    assert result['floors'] == dict(exact=FLOOR, fast='student alone, bf16 channels_last', replay=FLOOR)


@pytest.mark.slow
def test_the_exact_variant_computes_what_the_published_recipe_does(result):
    assert result['differences']['exact']['loss'] < step_time.TOLERANCE
    assert result['differences']['exact']['update'] < step_time.UPDATE_TOLERANCE
    assert result['differences']['exact']['loss'] < result['differences']['fast']['loss']


@pytest.mark.slow
def test_each_part_takes_time_where_it_runs_and_nowhere_else(result):
    for name, case in result['cases'].items():
        alone = name.startswith('student alone')
        expected = set(step_time.PARTS)
        if alone:
            expected -= {'teachers', 'augmentation'}
        if name == step_time.MMRAZOR:
            expected -= {'augmentation'}
        assert {part for part, time in case['parts']['seconds'].items() if time > 0} == expected
        assert sum(case['parts']['shares'].values()) == pytest.approx(1)


@pytest.mark.slow
def test_the_cases_do_the_work_that_they_are_named_for(result):
    def flop(case, part):
        return result['cases'][case]['operators'][part]['flop']

    # folding a batch normalisation takes away no product of the convolution; one view of one teacher is a quarter
    assert flop('exact', 'teachers') == flop(step_time.PUBLISHED, 'teachers') == 4 * flop(step_time.MMRAZOR, 'teachers')
    assert 'teachers' not in result['cases']['replay']['operators'] or flop('replay', 'teachers') == 0
    for case in ('exact', 'replay', FLOOR):
        assert flop(case, 'student forward') == flop(step_time.PUBLISHED, 'student forward')
        assert flop(case, 'backward') == flop(step_time.PUBLISHED, 'backward')
    assert flop(FLOOR, 'student forward') == 2 * flop(step_time.MMRAZOR, 'student forward')


@pytest.mark.slow
def test_peak_memory_is_what_is_held_and_what_a_step_adds(result):
    for case in result['cases'].values():
        memory = case['memory']
        assert memory['peak'] == memory['held'] + memory['step']
    held = {name: case['memory']['held'] for name, case in result['cases'].items()}
    assert held[FLOOR] < held[step_time.MMRAZOR] < held[step_time.PUBLISHED] < held['exact']


@pytest.mark.slow
def test_a_variant_that_computes_something_else_is_not_reported(tmp_path):
    finished = run(tmp_path / 'step.json', 'wrong:task_loss_weight=2.0,exact=True')
    assert finished.returncode == 1
    assert 'error: wrong does not compute what the published recipe does: its losses differ by 1 ' in finished.stderr
    assert not (tmp_path / 'step.json').exists()


def test_a_variant_is_a_name_or_its_fields():
    assert step_time.read_variant('fast') == ('fast', step_time.VARIANTS['fast'])
    name, variant = step_time.read_variant('mine:teacher_engine.dtype=bf16,joint_views=True,amp=True')
    assert name == 'mine'
    assert variant == step_time.Variant({'teacher_engine.dtype': 'bf16', 'joint_views': True}, amp=True)


@pytest.mark.parametrize(
    ('text', 'message'),
    [('fats', "no variant 'fats'; there are plain, exact, fast, replay"), ('x:amp', "a field is key=value, got 'amp'")],
)
def test_a_slip_in_a_variant_is_named(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        step_time.read_variant(text)


def test_an_inner_part_stops_the_outer_one(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(step_time, 'time', SimpleNamespace(perf_counter=lambda: now[0]))
    clock = step_time.PartClock()
    clock.restart()
    with clock.part('teachers'):
        now[0] += 2
        with clock.part('losses'):
            now[0] += 5
            clock.rename('backward')
            now[0] += 1
        now[0] += 16
    now[0] += 32
    parts = {name: seconds for name, seconds in clock.stop().items() if seconds}
    assert parts == dict(teachers=18, losses=5, backward=1, rest=32)


def test_operators_are_counted_with_their_bytes_and_views_are_free():
    left, right = torch.randn(3, 5), torch.randn(5, 7)
    with step_time.Meter(step_time.PartClock()) as meter:
        (left @ right).t().view(7, 3)
    assert meter.operators == {'rest': [(2 * 3 * 5 * 7, 4 * (3 * 5 + 5 * 7 + 3 * 7), torch.float32)]}


def test_the_roofline_of_an_operator_is_its_scarcer_resource():
    ceilings = dict(float32=10.0, bfloat16=40.0, bytes=2.0)
    operators = [(100, 1, torch.float32), (100, 1, torch.bfloat16), (1, 100, torch.float32)]
    assert step_time.roofline_seconds(operators, ceilings) == 100 / 10 + 100 / 40 + 100 / 2


def test_what_is_held_counts_each_storage_once():
    network = torch.nn.Linear(100, 10, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    assert step_time.held_bytes([network, optimizer, network.weight[:5]]) == 4 * 1000
    network(torch.ones(1, 100)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    assert step_time.held_bytes([network, optimizer]) == 2 * 4 * 1000
