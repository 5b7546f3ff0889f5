"""Runs of a comparison are trained, resumed and read back. Two epochs on the digits, in this process."""

import fcntl
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.datasets import PackInputs
from PIL import Image
from short_runs import short_run, state

from r2kd_mm.report import make_rows, to_markdown
from r2kd_mm.runs import (
    LocalEngine,
    Run,
    State,
    accuracy,
    complete,
    last_checkpoint,
    load_result,
    trained_student,
    validation_logits,
)
from r2kd_mm.runs.training import train


class Interrupted(Exception):
    """Raised where a test stops a run."""


@pytest.fixture(scope='module')
def finished(tmp_path_factory) -> Run:
    run = short_run(tmp_path_factory.mktemp('finished'))
    assert state(run) is State.NEW
    train(run, lambda share: None)
    return run


def test_a_result_has_the_accuracy_of_each_epoch(finished):
    result = load_result(finished)
    assert result.epochs == [1, 2]
    assert result.last == result.accuracy[1]
    assert result.best == max(result.accuracy)
    assert all(0 <= accuracy <= 100 for accuracy in result.accuracy)
    assert result.seconds > 0
    assert result.cpu_seconds > 0
    assert result.test == {}  # the digits have no images beside those of the validation
    assert state(finished) is State.FINISHED


@pytest.mark.slow
def test_a_test_set_of_its_own_is_reported_for_the_last_epoch_and_for_the_one_that_validation_chose(tmp_path):
    options = {
        'test_dataloader.dataset.indices': 200,
        'default_hooks.checkpoint.save_best': 'accuracy/top1',
        'train_cfg.max_epochs': 3,
        # up the slope in the last epoch, so that it is not the best one
        'param_scheduler': [dict(type='MultiStepLR', milestones=[2], gamma=-1.0)],
    }
    run = short_run(tmp_path, **options)
    result = train(run, lambda share: None)
    assert result.accuracy[-1] < max(result.accuracy)

    network, cfg = trained_student(run)
    cfg.val_dataloader = cfg.test_dataloader
    logits, labels = validation_logits({'last': network}, cfg)
    assert len(labels) == 200
    assert result.last == pytest.approx(accuracy(logits['last'], labels))
    weights = torch.load(next(run.folder.glob('best_*.pth')), weights_only=False)['state_dict']
    network.load_state_dict(weights)
    logits, _ = validation_logits({'best': network}, cfg)
    assert result.best == pytest.approx(accuracy(logits['best'], labels))
    assert load_result(run) == result


@pytest.mark.slow
def test_a_resumed_run_tests_the_epoch_that_validation_chose(tmp_path):
    options = {'test_dataloader.dataset.indices': 200, 'default_hooks.checkpoint.save_best': 'accuracy/top1'}
    whole, run = short_run(tmp_path / 'whole', **options), short_run(tmp_path / 'parts', **options)

    def stop_in_epoch_2(share):
        if share == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(run, stop_in_epoch_2)
    result = train(run)
    expected = train(whole)
    assert result.test.keys() == {'last', 'best'}
    assert (result.accuracy, result.test) == (expected.accuracy, expected.test)


def test_missing_test_data_are_an_error_before_the_training(tmp_path):
    missing = dict(type='ImageFolder', data_root=str(tmp_path / 'gone'), split='val', _delete_=True)
    shares = []
    with pytest.raises(FileNotFoundError, match="there is no data folder '.*/gone/val'"):
        train(short_run(tmp_path, **{'test_dataloader.dataset': missing}), shares.append)
    assert shares == []


def test_test_data_of_other_classes_are_an_error_before_the_training(tmp_path):
    for name in ('a', 'b'):
        (tmp_path / f'val/{name}').mkdir(parents=True)
        Image.new('RGB', (4, 4)).save(tmp_path / f'val/{name}/x.png')
    other = dict(type='ImageFolder', data_root=str(tmp_path), split='val', _delete_=True)
    shares = []
    with pytest.raises(ValueError, match='train_dataloader and test_dataloader do not have .* 10 and 2 classes'):
        train(short_run(tmp_path, **{'test_dataloader.dataset': other}), shares.append)
    assert shares == []


def test_equal_seeds_give_equal_results_and_others_do_not(finished, tmp_path):
    again, other = short_run(tmp_path), short_run(tmp_path, seed=1)
    assert train(again, lambda share: None).accuracy == load_result(finished).accuracy
    assert train(other, lambda share: None).accuracy != load_result(finished).accuracy


def test_a_resumed_run_ends_as_without_the_interruption(finished, tmp_path):
    run = short_run(tmp_path)
    shares = []

    def stop_in_epoch_2(share):
        shares.append(share)
        if share == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(run, stop_in_epoch_2)
    assert state(run) is State.INTERRUPTED
    (run.folder / 'last_checkpoint').write_text(str(run.folder / 'epoch_1.pth'))
    result = train(run, shares.append)
    assert shares == [0.5, 1, 1]  # the second start trained epoch 2 alone
    assert result.accuracy == load_result(finished).accuracy


def test_a_resumed_run_counts_the_time_that_its_checkpoint_took(finished, tmp_path):
    run = short_run(tmp_path)
    shutil.copytree(finished.folder, run.folder)
    (run.folder / 'result.json').unlink()
    (run.folder / 'last_checkpoint').write_text(str(run.folder / 'epoch_1.pth'))
    checkpoint = torch.load(run.folder / 'epoch_1.pth', weights_only=False)
    info = checkpoint['message_hub']['runtime_info']
    seconds, cpu_seconds = info['comparison_seconds']
    whole = load_result(finished)
    assert 0 < seconds < whole.seconds
    assert 0 < cpu_seconds < whole.cpu_seconds
    info['comparison_seconds'] = 1000.0, 2000.0
    torch.save(checkpoint, run.folder / 'epoch_1.pth')

    result = train(run, lambda share: None)
    assert 1000 < result.seconds < 2000  # added once
    assert 2000 < result.cpu_seconds < 4000


def test_an_evaluation_that_the_interruption_took_is_made_up_for(finished, tmp_path):
    run = short_run(tmp_path)
    shutil.copytree(finished.folder, run.folder)
    (run.folder / 'result.json').unlink()
    (scalars,) = run.folder.glob('*/vis_data/scalars.json')
    lines = scalars.read_text().splitlines()
    scalars.write_text('\n'.join(lines[:-1]) + '\n' + lines[-1][:10])  # killed while it wrote the last one
    assert state(run) is State.INTERRUPTED
    assert train(run, lambda share: None).accuracy == load_result(finished).accuracy


def test_a_changed_config_is_noticed_and_trained_again(finished, tmp_path):
    run = short_run(tmp_path, **{'optim_wrapper.optimizer.lr': 0.07})
    shutil.copytree(finished.folder, run.folder)
    (run.folder / 'stale').touch()
    assert state(run) is State.CHANGED
    result = train(run, lambda share: None)
    assert result.accuracy != load_result(finished).accuracy
    assert not (run.folder / 'stale').exists()
    assert not run.set_aside.exists()
    assert state(run) is State.FINISHED


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.mark.parametrize(
    ('typo', 'message'),
    [
        ({'optim_wrapper.optimizer.learning_rate': 0.4}, "SGD does not take 'learning_rate'"),  # when it is read
        ({'optim_wrapper.optimizer.lr': -1}, 'Invalid learning rate: -1'),  # when it is built
        ({'model.head.num_classes': 11}, 'train_dataloader has 10 classes, but the head'),  # when training begins
    ],
)
def test_a_mistake_in_the_config_costs_no_run(finished, typo, message, tmp_path):
    run = short_run(tmp_path, **typo)
    shutil.copytree(finished.folder, run.folder)
    with pytest.raises((TypeError, ValueError), match=message):
        train(run, lambda share: None)
    assert contents(run.folder) == contents(finished.folder)
    assert not run.set_aside.exists()


@pytest.mark.slow
def test_a_run_comes_back_while_the_one_that_takes_its_place_is_not_finished(finished, tmp_path, monkeypatch, capsys):
    first = short_run(tmp_path)
    changed, other = (
        replace(short_run(tmp_path, **{'optim_wrapper.optimizer.lr': lr}), folder=first.folder) for lr in (0.07, 0.08)
    )
    shutil.copytree(finished.folder, first.folder)

    def stop(share):
        if share == 1:  # after the checkpoint of epoch 1
            raise Interrupted

    for run in (changed, other):  # the finished one is kept, not what came after it
        with pytest.raises(Interrupted):
            train(run, stop)
        assert state(run) is State.INTERRUPTED
        assert state(first) is State.SET_ASIDE
    monkeypatch.setattr('r2kd_mm.runs.compare.train_all', lambda *args: None)
    complete([changed], LocalEngine(1))
    assert 'what is there was never finished and is deleted, and seed_0.set_aside is kept' in capsys.readouterr().out
    assert state(changed) is State.CHANGED
    assert train(first, stop) == load_result(finished)
    assert contents(first.folder) == contents(finished.folder)
    assert not first.set_aside.exists()


def test_options_may_state_types_as_a_config_does(tmp_path):
    pipeline = [dict(type=PackInputs)]
    run = short_run(tmp_path, **{'train_dataloader.dataset.pipeline': pipeline, 'train_cfg.max_epochs': 1})
    assert train(run, lambda share: None).epochs == [1]
    (written,) = run.folder.glob('*/vis_data/config.py')
    (step,) = Config.fromfile(written).train_dataloader.dataset.pipeline
    assert step.type == 'mmpretrain.datasets.transforms.formatting.PackInputs'
    assert pipeline == [dict(type=PackInputs)]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            {'custom_hooks': [dict(type='EMAHook', evaluate_on_ema=False, evaluate_on_origin=True)]},
            'EMAHook with evaluate_on_ema=False: .* raw weights',
        ),
        ({'val_evaluator.prefix': 'other'}, "val_evaluator measures no 'accuracy/top1': .* mmpretrain's Accuracy"),
        ({'val_evaluator.topk': (5,)}, 'with 1 in its topk'),
        (
            {'test_dataloader.dataset.indices': 200, 'test_evaluator': dict(type='Accuracy', topk=(5,), _delete_=True)},
            'test_evaluator measures no',
        ),
        ({'visualizer.vis_backends': []}, 'needs a LocalVisBackend'),
    ],
)
def test_a_config_whose_accuracy_would_not_be_known_is_refused_before_the_training(options, message, tmp_path):
    shares = []
    with pytest.raises(ValueError, match=message):
        train(short_run(tmp_path, **options), shares.append)
    assert shares == []


@pytest.mark.slow
def test_the_accuracy_of_an_average_is_that_of_the_weights_in_its_checkpoint(tmp_path):
    average = [dict(type='EMAHook', momentum=0.02)]
    run = short_run(tmp_path, **{'test_dataloader.dataset.indices': 300, 'custom_hooks': average})
    result = train(run, lambda share: None)
    network, cfg = trained_student(run)
    cfg.val_dataloader = cfg.test_dataloader

    def tested():
        logits, labels = validation_logits({'last': network}, cfg)
        return accuracy(logits['last'], labels)

    assert result.last == pytest.approx(tested())
    raw = torch.load(last_checkpoint(run), weights_only=False)['ema_state_dict']
    network.load_state_dict({name[7:]: weight for name, weight in raw.items() if name.startswith('module.')})
    assert result.last != pytest.approx(tested())


@pytest.mark.slow
def test_the_best_epoch_is_not_known_where_its_weights_were_not_kept(tmp_path):
    run = short_run(tmp_path, **{'test_dataloader.dataset.indices': 200, 'default_hooks.checkpoint.save_best': None})
    result = train(run, lambda share: None)
    assert result.test.keys() == {'last'}
    assert result.best is None
    (row,) = make_rows({run.method: {0: result}})
    assert row.best is None
    assert '| not known' in to_markdown([row])


def test_two_processes_do_not_train_one_run(tmp_path):
    run = short_run(tmp_path)
    run.folder.mkdir(parents=True)
    with run.folder.with_suffix('.lock').open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match='is being trained in .* by another process'):
            train(run, lambda share: None)


def test_the_trained_network_is_read_back(finished):
    network, _ = trained_student(finished)
    assert not network.training
    weights = torch.load(last_checkpoint(finished), weights_only=False)['state_dict']
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


def test_teachers_are_read_from_what_the_runner_wrote(finished, tmp_path):
    run = short_run(tmp_path)
    shutil.copytree(finished.folder, run.folder)
    (run.folder / 'result.json').unlink()
    (scalars,) = run.folder.glob('*/vis_data/scalars.json')
    head = json.dumps({'teacher/accuracy': 94.5, 'step': 0}) + '\n' + json.dumps({'pruned_teacher/accuracy': 93.0})
    scalars.write_text(f'{head}\n{scalars.read_text()}')
    assert train(run, lambda share: None).teachers == dict(teacher=94.5, pruned_teacher=93.0)
