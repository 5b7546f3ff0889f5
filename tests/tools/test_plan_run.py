"""plan_run.py prints the plan of a step, and fails if the step does not fit into memory."""

import toolbox

CONFIG = toolbox.ROOT / 'configs/supervised/res6_digits.py'


def test_a_batch_that_does_not_fit_is_a_plan_and_one_line():
    arguments = ['--image-size', '8', '--device', 'h100', '--memory', '10kB', '--only-config']
    finished = toolbox.run_forked('plan_run.py', CONFIG, *arguments)
    assert finished.returncode == 1
    assert '# res6_digits: 60 images of 8 x 8 on H100 SXM' in finished.stdout
    assert '| part of a step | GFLOP | read and written | most memory | ms at the peak |' in finished.stdout
    assert 'error: a batch of 60 does not fit: it needs' in finished.stderr
    assert 'not even a batch of 2 does' in finished.stderr
