"""Train the flagship config on a miniature ImageNet: kill, interrupt, resume and test it; also with two processes."""

import json
import os
import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import mmengine
import pytest
import toolbox
import torch
from mmengine.config import Config
from mmengine.runner.checkpoint import CheckpointLoader

FLAGSHIP = toolbox.ROOT / 'configs/r2kd/r2kd_res50_mbv1_imagenet.py'
MAX_EPOCHS = 3


def points_to_epoch(work_dir: Path, epoch: int) -> bool:
    """Return whether ``--resume`` finds the checkpoint of ``epoch`` as the newest."""
    pointer = work_dir / 'last_checkpoint'
    return pointer.exists() and pointer.read_text().endswith(f'epoch_{epoch}.pth')


@pytest.fixture(scope='module')
def run(mini_options: list[str], mini_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """One run in three processes: the first killed after epoch 1, the second interrupted after epoch 2."""
    work_dir = tmp_path_factory.mktemp('work') / 'with a space'
    command = (
        'train.py',
        FLAGSHIP,
        '--work-dir',
        work_dir,
        '--resume',
        '--auto-scale-lr',
        '--cfg-options',
        *mini_options,
        f'model.teacher_ckpt={mini_teacher}',
        f'train_cfg.max_epochs={MAX_EPOCHS}',
    )
    runs = dict(work_dir=work_dir)
    stops = (('killed', 1, signal.SIGKILL), ('interrupted', 2, signal.SIGINT), ('finished', None, None))
    for name, epoch, how in stops:
        process = toolbox.Forked(tmp_path_factory.mktemp(name), *command)
        if epoch is None:
            runs[name] = process.finish()
        else:
            runs[name] = process.stop_when(partial(points_to_epoch, work_dir, epoch), how)
    return runs


def trained_epochs(finished: toolbox.Finished) -> list[int]:
    return [int(epoch) for epoch in re.findall(r'Epoch\(train\) +\[(\d+)\]\[1/2\]', finished.stdout)]


def validated(finished: toolbox.Finished) -> float:
    """The last validation's top-1 accuracy, in percent."""
    return float(re.findall(r'Epoch\(val\).*accuracy/top1: ([\d.]+)', finished.stdout)[-1])


def test_resume_goes_on_after_the_epoch_that_was_saved(run):
    assert run['killed'].returncode == -signal.SIGKILL
    assert run['finished'].returncode == 0, run['finished'].stderr
    assert trained_epochs(run['killed'])[0] == 1
    assert trained_epochs(run['interrupted'])[0] == 2
    assert trained_epochs(run['finished']) == [3]


def test_a_resumed_run_of_the_same_config_has_no_change_to_report(run):
    assert 'resumed epoch: 2' in run['finished'].stdout
    assert 'Resumed with changes' not in run['finished'].stdout


@pytest.mark.parametrize('allowed', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_changed_config_is_refused_on_resume_unless_allowed(run, mini_options, mini_teacher, tmp_path, allowed):
    finished = toolbox.run_forked(
        'train.py',
        FLAGSHIP,
        '--work-dir',
        tmp_path,
        '--resume',
        run['work_dir'] / f'epoch_{MAX_EPOCHS}.pth',
        '--auto-scale-lr',
        *(['--allow-changes'] if allowed else []),
        '--cfg-options',
        *mini_options,
        f'model.teacher_ckpt={mini_teacher}',
        f'train_cfg.max_epochs={MAX_EPOCHS}',
        'model.teacher_weight=0.5',
    )
    change = 'model.teacher_weight: 0.7 -> 0.5'
    if allowed:
        assert finished.returncode == 0, finished.stderr
        assert f'Resumed with changes: {change}' in finished.stdout
    else:
        assert finished.returncode == 1
        assert (
            f'error: this run is not the one that wrote the checkpoint it resumes from: {change}. ' in finished.stderr
        )


@pytest.mark.slow
def test_a_preempted_job_saves_and_goes_on(tmp_path):
    command = toolbox.command(
        'train.py',
        toolbox.ROOT / 'configs/supervised/res6_digits.py',
        '--work-dir',
        tmp_path,
        '--resume',
        '--no-validate',
        '--cfg-options',
        'train_dataloader.num_workers=2',
        'train_cfg.max_epochs=200',
    )
    process = toolbox.start(command, start_new_session=True)
    while not (tmp_path / 'last_checkpoint').exists() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)  # a cluster signals every process of the job, the data workers too
    out, err = process.communicate(timeout=toolbox.TIMEOUT)
    assert process.returncode == 143, err
    stopped = int(re.search(r'Stopped by SIGTERM after iteration (\d+)', out).group(1))
    assert torch.load(Path((tmp_path / 'last_checkpoint').read_text()), weights_only=False)['meta']['iter'] == stopped
    finished = toolbox.run_forked(*Path(command[1]).parts[-1:], *command[2:-1], 'train_cfg.max_epochs=1')
    assert finished.returncode == 0, finished.stderr
    assert f'iter: {stopped}' in finished.stdout


def test_an_interrupt_says_how_to_go_on(run):
    interrupted = run['interrupted']
    assert interrupted.returncode == 1
    assert 'Traceback' not in interrupted.stderr
    assert re.search(r'^interrupted after \d+ training iterations.*epoch_2\.pth.*--resume', interrupted.stderr, re.M)


def test_the_checkpoint_holds_the_student_and_what_resuming_needs(run):
    checkpoint = CheckpointLoader.load_checkpoint(str(run['work_dir'] / f'epoch_{MAX_EPOCHS}.pth'))
    assert all(name.startswith('architecture.') for name in checkpoint['state_dict'])
    parameters = [name for name in checkpoint['state_dict'] if name.endswith(('weight', 'bias'))]
    assert len(checkpoint['optimizer']['state']) == len(parameters)  # a momentum for each of the student's parameters
    assert checkpoint['meta']['epoch'] == MAX_EPOCHS
    assert checkpoint['meta']['iter'] == 2 * MAX_EPOCHS
    assert not list(run['work_dir'].glob('**/*.tmp'))


def test_the_screen_shows_every_loss_the_time_left_and_the_teachers(run):
    assert re.search(r'Teacher: 100\.00 % top-1 on 30 images', run['finished'].stdout)
    assert re.search(r'Pruned teacher: [\d.]+ % top-1 on 30 images', run['finished'].stdout)
    assert re.search(r'^all +[\d,]+ of +[\d,]+ zero +10\.00 %$', run['finished'].stdout, re.M)
    shown = next(line for line in run['finished'].stdout.splitlines() if 'Epoch(train)' in line)
    for name in (
        'student.loss',
        'clean.loss_value',
        'clean.loss_rank',
        'augmented.loss_value',
        'augmented.loss_rank',
        'eta',
    ):
        assert f' {name}: ' in shown


def test_the_loss_that_is_trained_is_the_sum_of_those_shown(run):
    shown = next(line for line in run['finished'].stdout.splitlines() if 'Epoch(train)' in line)
    total, *terms = (float(value) for value in re.findall(r'loss(?:_value|_rank)?: ([\d.]+)', shown))
    assert len(terms) == 5
    assert total == pytest.approx(sum(terms), abs=1e-3)


def test_the_learning_rate_is_scaled_to_the_batch(run):
    assert re.search(r'lr: 7\.8125e-03', run['finished'].stdout)  # 0.1 * 20 / 256


@pytest.mark.slow
def test_testing_gives_the_last_validation_again_and_needs_no_teacher(run, mini_options, tmp_path):
    finished = toolbox.run(
        'test.py',
        FLAGSHIP,
        run['work_dir'] / f'epoch_{MAX_EPOCHS}.pth',
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'metrics.json',
        '--out-item',
        'metrics',
        '--cfg-options',
        *mini_options,
        'model.teacher_ckpt=/no/such/teacher.pth',
    )
    assert finished.returncode == 0, finished.stderr
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    assert metrics['accuracy/top1'] == pytest.approx(validated(run['finished']), abs=1e-4)


@pytest.mark.slow
def test_testing_writes_the_predictions_and_pictures(run, mini_options, tmp_path):
    finished = toolbox.run_forked(
        'test.py',
        FLAGSHIP,
        run['work_dir'] / f'epoch_{MAX_EPOCHS}.pth',
        '--work-dir',
        tmp_path,
        '--out',
        tmp_path / 'predictions.pkl',
        '--show-dir',
        tmp_path / 'pictures',
        '--interval',
        '10',
        '--amp',
        '--cfg-options',
        *mini_options,
    )
    assert finished.returncode == 0, finished.stderr
    predictions = mmengine.load(tmp_path / 'predictions.pkl')
    assert len(predictions) == 30
    assert len(list((tmp_path / 'pictures').glob('**/*.*'))) == 3


@pytest.mark.slow
def test_testing_refuses_data_whose_labels_mean_other_classes(run, mini_imagenet, mini_options, tmp_path):
    classes = sorted(path.name for path in (mini_imagenet / 'train').iterdir())
    for name in classes[1:]:
        shutil.copytree(mini_imagenet / 'train' / name, tmp_path / 'data/val' / name)

    def test():
        return toolbox.run_forked(
            'test.py',
            FLAGSHIP,
            run['work_dir'] / f'epoch_{MAX_EPOCHS}.pth',
            '--work-dir',
            tmp_path / 'work',
            '--cfg-options',
            *mini_options,
            f'test_dataloader.dataset.data_root={tmp_path / "data"}',
        )

    refused = test()
    assert refused.returncode == 1
    assert re.search(
        '^error: the test data and checkpoint .* do not have the same classes in the same order: 4 and 5 classes, and '
        f"number 0 is '{classes[1]}' in the first and '{classes[0]}' in the second",
        refused.stderr,
        re.M,
    )
    for name in classes:  # as the message advises
        (tmp_path / 'data/train' / name).mkdir(parents=True)
    assert test().returncode == 0


@pytest.mark.slow
def test_testing_refuses_the_checkpoint_of_another_network(mini_teacher, mini_options, tmp_path):
    finished = toolbox.run_forked(
        'test.py', FLAGSHIP, mini_teacher, '--work-dir', tmp_path, '--cfg-options', *mini_options
    )
    assert finished.returncode == 1
    assert re.search(
        r'^error: checkpoint .* does not fit the model .* the first is architecture\.backbone\.conv1',
        finished.stderr,
        re.M,
    )


@pytest.mark.slow
def test_mixed_precision_without_validation_trains(mini_options, mini_teacher, tmp_path):
    finished = toolbox.run_forked(
        'train.py',
        FLAGSHIP,
        '--work-dir',
        tmp_path,
        '--amp',
        '--no-validate',
        '--cfg-options',
        *mini_options,
        f'model.teacher_ckpt={mini_teacher}',
        'train_cfg.max_epochs=1',
    )
    assert finished.returncode == 0, finished.stderr
    assert 'Epoch(val)' not in finished.stdout
    assert Config.fromfile(tmp_path / FLAGSHIP.name).optim_wrapper.type == 'r2kd_mm.AutocastOptimWrapper'
    assert (tmp_path / 'epoch_1.pth').exists()


def test_two_processes_train_one_student(mini_options, mini_teacher, tmp_path):
    finished = toolbox.run(
        'dist_train.sh',
        FLAGSHIP,
        '2',
        '--work-dir',
        tmp_path / 'a work dir',
        '--cfg-options',
        *mini_options,
        f'model.teacher_ckpt={mini_teacher}',
        'train_dataloader.batch_size=10',
        'train_cfg.max_epochs=1',
        'custom_hooks.0.type=rank_weights.SaveRankWeights',
        PORT=str(toolbox.free_port()),
    )
    assert finished.returncode == 0, finished.stderr
    first, second = (torch.load(tmp_path / 'a work dir' / f'rank_{rank}.pt') for rank in range(2))
    assert not torch.equal(first.pop('images'), second.pop('images'))  # each saw its own half of the data
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert trained_epochs(finished) == [1]  # one of the two writes the log
