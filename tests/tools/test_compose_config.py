"""compose_config.py prints or writes the config of a method on a pair of networks."""

import pytest
import toolbox


def test_the_config_is_printed():
    finished = toolbox.run_forked('compose_config.py', 'r2kd-mixup', 'res56_res20_cifar100')
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith('# R2KD with Mixup, ResNet-56 to ResNet-20 on CIFAR-100.\n# lr 0.05 is for 1 GPU')
    assert finished.stdout.endswith(
        '    from .._base_.methods.r2kd_mixup import *\n'
        '    from .._base_.pairs.res56_res20_cifar100 import *\n\n'
        'model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)\n'
    )


def test_a_file_is_written_and_no_other_than_a_python_file(tmp_path):
    finished = toolbox.run_forked('compose_config.py', 'kd-ls', 'res32x4_sv1_cifar100', '--out', tmp_path / 'new/a.py')
    assert finished.stdout.startswith(f'written to {tmp_path}/new/a.py; train it with python tools/train.py')
    assert '_base_.methods.kd_ls import *' in (tmp_path / 'new/a.py').read_text()
    finished = toolbox.run_forked('compose_config.py', 'kd-ls', 'res32x4_sv1_cifar100', '--out', tmp_path / 'a.yml')
    assert finished.returncode == 2
    assert '--out must end in .py' in finished.stderr


@pytest.mark.parametrize('arguments', [('r2kd-mixdown', 'res56_res20_cifar100')])
def test_an_unknown_method_is_one_line(arguments):
    finished = toolbox.run_forked('compose_config.py', *arguments)
    assert finished.returncode == 1
    assert "error: there is no method 'r2kd-mixdown'; did you mean 'r2kd-mixup'?" in finished.stderr
