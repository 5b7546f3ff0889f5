"""The shell scripts pass every argument on unchanged."""

import json
import sys
from pathlib import Path

import pytest
import toolbox

ARGUMENTS = ('--work-dir', 'a work dir', '--cfg-options', 'val_evaluator.topk="(1, 5)"')


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Run a script where ``python`` and ``srun`` write down their arguments, and return these."""
    for name in ('python', 'srun'):
        stub = tmp_path / 'bin' / name
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(
            f'#!{sys.executable}\nimport json, os, sys\n'
            f'json.dump([sys.argv[1:], dict(os.environ)], open({str(tmp_path / name)!r}, "w"))\n'
        )
        stub.chmod(0o755)

    def run(script: str, *arguments: str, launcher: str = 'python', **variables: str) -> list[str]:
        path = f'{tmp_path / "bin"}:{toolbox.environment()["PATH"]}'
        finished = toolbox.run(script, *arguments, PATH=path, **variables)
        assert finished.returncode == 0, finished.stderr
        argv, environment = json.loads((tmp_path / launcher).read_text())
        assert toolbox.ROOT in [Path(part).resolve() for part in environment['PYTHONPATH'].split(':')]
        return argv

    return run


@pytest.mark.parametrize(
    ('script', 'tool', 'given'),
    [
        ('dist_train.sh', 'train.py', ('my config.py',)),
        ('dist_test.sh', 'test.py', ('my config.py', 'my checkpoint.pth')),
    ],
)
def test_torchrun_gets_the_tool_and_its_arguments(launched, script, tool, given):
    argv = launched(script, *given, '4', *ARGUMENTS, NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234')
    assert argv == [
        '-m',
        'torch.distributed.run',
        '--nnodes=2',
        '--node_rank=1',
        '--master_addr=10.0.0.1',
        '--master_port=1234',
        '--nproc_per_node=4',
        str(toolbox.ROOT / 'tools' / tool),
        *given,
        '--launcher',
        'pytorch',
        *ARGUMENTS,
    ]


def test_one_machine_is_the_default(launched):
    argv = launched('dist_train.sh', 'config.py', '2')
    assert {'--nnodes=1', '--node_rank=0', '--master_addr=127.0.0.1', '--master_port=29500'} < set(argv)
    assert '--resume' not in argv


def test_restarts_meet_at_machine_0_and_go_on_from_the_last_checkpoint(launched, tmp_path):
    variables = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234', LOCAL_ADDR='10.0.0.2')
    argv = launched('dist_train.sh', 'my config.py', '4', *ARGUMENTS, **variables, MAX_RESTARTS='3', RDZV_ID='a run')
    assert argv == [
        '-m',
        'torch.distributed.run',
        '--nnodes=2',
        '--max-restarts=3',
        '--rdzv-backend=c10d',
        '--rdzv-endpoint=10.0.0.1:1234',
        '--rdzv-id=a run',
        '--rdzv-conf=is_host=0',
        '--local-addr=10.0.0.2',
        '--nproc_per_node=4',
        str(toolbox.ROOT / 'tools/train.py'),
        'my config.py',
        '--launcher',
        'pytorch',
        '--resume',
        *ARGUMENTS,
    ]
    _, environment = json.loads((tmp_path / 'python').read_text())
    assert environment['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] == '1'


def test_machine_0_hosts_the_meeting_and_an_address_is_given_only_where_it_is_known(launched):
    argv = launched('dist_train.sh', 'config.py', '2', MAX_RESTARTS='1')
    assert '--rdzv-conf=is_host=1' in argv
    assert not [argument for argument in argv if argument.startswith('--local-addr')]


@pytest.mark.parametrize(
    ('script', 'command'),
    [
        ('slurm_train.sh', ['train.py', 'my config.py', '--work-dir=my file']),
        ('slurm_test.sh', ['test.py', 'my config.py', 'my file']),
    ],
)
def test_srun_gets_the_tool_and_its_arguments(launched, script, command):
    argv = launched(
        script,
        'gpu',
        'my job',
        'my config.py',
        'my file',
        *ARGUMENTS,
        launcher='srun',
        GPUS='4',
        SRUN_ARGS='--mem=8G --quiet',
    )
    tool, *arguments = command
    assert argv == [
        '--partition=gpu',
        '--job-name=my job',
        '--gres=gpu:4',
        '--ntasks=4',
        '--ntasks-per-node=4',
        '--cpus-per-task=5',
        '--kill-on-bad-exit=1',
        '--mem=8G',
        '--quiet',
        'python',
        '-u',
        str(toolbox.ROOT / 'tools' / tool),
        *arguments,
        '--launcher=slurm',
        *ARGUMENTS,
    ]


@pytest.mark.parametrize(
    'script', toolbox.quick_first(['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
)
def test_too_few_arguments_are_answered_with_the_usage(script):
    finished = toolbox.run(script, 'config.py')
    assert finished.returncode == 2
    assert finished.stderr.startswith('usage: ')
    assert 'CONFIG' in finished.stderr
