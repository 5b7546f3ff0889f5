"""test.py refuses an output file that it cannot write, before it evaluates the test set."""

import exports
import pytest
import toolbox
from run_folders import ALONE

CONFIG = toolbox.ROOT / 'configs' / ALONE


@pytest.mark.parametrize(
    ('arguments', 'message'),
    toolbox.quick_first(
        [
            (('m.csv', '--out-item', 'metrics'), 'metrics are written as .pkl, .json or .yaml, got --out m.csv'),
            (('m.json', '--out-item', 'pred'), 'predictions are written as .pkl, got --out m.json'),
            (('m.json',), 'predictions are written as .pkl, got --out m.json'),
        ]
    ),
)
def test_a_format_that_cannot_be_written_is_a_usage_error(arguments, message, tmp_path):
    finished = toolbox.run_forked('test.py', CONFIG, 'no.pth', '--work-dir', tmp_path, '--out', *arguments)
    assert finished.returncode == 2
    assert message in finished.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused_before_the_test(tmp_path):
    checkpoint = exports.write_checkpoint(tmp_path / 'student.pth', ALONE)
    out = tmp_path / 'student.pth/metrics.json'
    options = ('--work-dir', tmp_path / 'work', '--out', out, '--out-item', 'metrics')
    finished = toolbox.run_forked('test.py', CONFIG, checkpoint, *options)
    assert finished.returncode == 1
    assert f"error: folder '{checkpoint}' cannot be written (File exists); give another by --out" in finished.stderr
    assert 'Epoch(test)' not in finished.stdout
