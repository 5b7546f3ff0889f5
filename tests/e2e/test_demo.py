"""Run ``tools/demo.py`` from end to end, with two epochs and one seed."""

import json

import toolbox


def test_the_demo_ends_with_its_table_and_pictures_and_does_nothing_twice(tmp_path):
    arguments = ['--epochs', '2', '--seeds', '0', '--jobs', '1', '--out', tmp_path]
    first = toolbox.run_forked('demo.py', *arguments)
    assert first.returncode == 0, first.stderr
    for row in ('| student alone', '| KD', '| R2KD, no augmentation', '| R2KD, CutMix', '| teacher'):
        assert row in first.stdout
    assert '17,408 of 174,096 weights zero (10.0 %)' in first.stdout
    for picture in ('accuracy.png', 'class_correlation.png'):
        assert str(tmp_path / picture) in first.stdout
        assert (tmp_path / picture).read_bytes().startswith(b'\x89PNG')
    table = (tmp_path / 'table.md').read_text()
    assert table in first.stdout
    methods = json.loads((tmp_path / 'results.json').read_text())['methods']
    assert [method['name'] for method in methods] == ['student alone', 'KD', 'R2KD, no augmentation', 'R2KD, CutMix']

    second = toolbox.run_forked('demo.py', *arguments)
    assert second.returncode == 0, second.stderr
    assert '3 of 3 runs are finished and are not repeated' in second.stdout
    assert (tmp_path / 'table.md').read_text() == table


def test_a_slip_is_one_clear_error(tmp_path):
    done = toolbox.run_forked('demo.py', '--seeds', '1', '1', '--out', tmp_path)
    assert done.returncode == 1
    assert 'error: --seeds 1 is given twice' in done.stderr
    assert 'Traceback' not in done.stderr
