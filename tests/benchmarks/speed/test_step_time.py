import argparse
import json
import statistics

import cases
import parts
import pytest
import step_time
import toolbox

SCRIPT = '../benchmarks/speed/step_time.py'
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
        cases.PUBLISHED,
        'exact',
        'fast',
        'replay',
        FLOOR,
        'student alone, bf16 channels_last',
        cases.MMRAZOR,
    }
    for case in result['cases'].values():
        assert len(case['seconds']) == 3
        assert case['median'] == statistics.median(case['seconds'])
        assert min(case['seconds']) > 0


@pytest.mark.slow
def test_ratios_are_those_of_the_medians(result):
    measured = result['cases']
    for name, case in measured.items():
        assert case['to_published']['ratio'] == case['median'] / measured[cases.PUBLISHED]['median']
        if name in result['floors']:
            assert case['to_student']['ratio'] == case['median'] / measured[result['floors'][name]]['median']
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
        expected = set(parts.PARTS)
        if alone:
            expected -= {'teachers', 'augmentation'}
        if name == cases.MMRAZOR:
            expected -= {'augmentation'}
        assert {part for part, time in case['parts']['seconds'].items() if time > 0} == expected
        assert sum(case['parts']['shares'].values()) == pytest.approx(1)


@pytest.mark.slow
def test_the_cases_do_the_work_that_they_are_named_for(result):
    def flop(case, part):
        return result['cases'][case]['operators'][part]['flop']

    # folding a batch normalisation takes away no product of the convolution; one view of one teacher is a quarter
    assert flop('exact', 'teachers') == flop(cases.PUBLISHED, 'teachers') == 4 * flop(cases.MMRAZOR, 'teachers')
    assert 'teachers' not in result['cases']['replay']['operators'] or flop('replay', 'teachers') == 0
    for case in ('exact', 'replay', FLOOR):
        assert flop(case, 'student forward') == flop(cases.PUBLISHED, 'student forward')
        assert flop(case, 'backward') == flop(cases.PUBLISHED, 'backward')
    assert flop(FLOOR, 'student forward') == 2 * flop(cases.MMRAZOR, 'student forward')


@pytest.mark.slow
def test_peak_memory_is_what_is_held_and_what_a_step_adds(result):
    for case in result['cases'].values():
        memory = case['memory']
        assert memory['peak'] == memory['held'] + memory['step']
    held = {name: case['memory']['held'] for name, case in result['cases'].items()}
    assert held[FLOOR] < held[cases.MMRAZOR] < held[cases.PUBLISHED] < held['exact']


@pytest.mark.slow
def test_a_variant_that_computes_something_else_is_not_reported(tmp_path):
    finished = run(tmp_path / 'step.json', 'wrong:task_loss_weight=2.0,exact=True')
    assert finished.returncode == 1
    assert 'error: wrong does not compute what the published recipe does: its losses differ by 1 ' in finished.stderr
    assert not (tmp_path / 'step.json').exists()


def test_a_variant_is_a_name_or_its_fields():
    assert step_time.read_variant('fast') == ('fast', cases.VARIANTS['fast'])
    name, variant = step_time.read_variant('mine:teacher_engine.dtype=bf16,joint_views=True,amp=True')
    assert name == 'mine'
    assert variant == cases.Variant({'teacher_engine.dtype': 'bf16', 'joint_views': True}, amp=True)


@pytest.mark.parametrize(
    ('text', 'message'),
    [('fats', "no variant 'fats'; there are plain, exact, fast, replay"), ('x:amp', "a field is key=value, got 'amp'")],
)
def test_a_typo_in_a_variant_is_named(text, message):
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        step_time.read_variant(text)
