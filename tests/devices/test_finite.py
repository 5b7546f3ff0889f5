"""The check for non-finite losses does not wait: the device undoes a bad step, and the host learns of it later."""

import pytest
import torch
import toys
from devices import runs
from mmengine.hooks import Hook

from r2kd_mm.engine.cli import RunStopped

BAD = 25  # an image of the third batch


class BrokenImages(toys.Images):
    """One image is NaN, see :data:`BAD`."""

    def __init__(self, broken: bool = True, left_out: bool = False) -> None:
        super().__init__(80)
        self.broken = broken
        self.places = [place for place in range(80) if not (left_out and 20 <= place < 30)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict:
        place = self.places[index]
        item = dict(super().__getitem__(place), data_samples=self.samples[place].clone())
        if self.broken and place == BAD:
            item['inputs'] = torch.full_like(item['inputs'], torch.nan)
        return item


class StopAfter(Hook):
    """Save a checkpoint after two steps."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == 2:
            runner.save_checkpoint(runner.work_dir, 'two_steps.pth', meta=dict(epoch=0, iter=2))


def run(folder, data, action='stop', max_skips=10, **fields):
    """A run of eight steps with momentum, a schedule by step and an average; the augmentation draws nothing."""
    whole = dict(
        train_dataloader=runs.loader(data, shuffle=False),
        param_scheduler=[dict(type='CosineAnnealingLR', T_max=8, by_epoch=False)],
        val_dataloader=None,
        val_cfg=None,
        val_evaluator=None,
    )
    model = runs.distiller(augmentation=None, data_preprocessor=None, pruner=None)
    hooks = [dict(type='FiniteCheckHook', action=action, max_skips=max_skips), dict(type='EMAHook')]
    return toys.runner(model, folder, hooks=hooks, **dict(whole, **fields))


def saved(path):
    return torch.load(path, map_location='cpu', weights_only=False)


def assert_same(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=False)


def test_stops_with_the_state_before_the_step(tmp_path):
    runner = run(tmp_path, BrokenImages())
    with pytest.raises(RunStopped, match='the gradient of iteration 3 is not finite; nor are the student logits'):
        runner.train()
    assert runner.iter == 3 + 4  # four more steps ran until the host knew
    whole = run(tmp_path / 'whole', BrokenImages(broken=False))
    whole.register_hook(StopAfter(), priority='VERY_LOW')
    whole.train()
    stopped, two_steps = saved(tmp_path / 'before_non_finite_iter_3.pth'), saved(tmp_path / 'whole' / 'two_steps.pth')
    assert stopped['meta']['iter'] == 2
    for part in ('state_dict', 'ema_state_dict'):
        assert_same(stopped[part], two_steps[part])
    assert_same(stopped['optimizer']['state'], two_steps['optimizer']['state'])
    assert stopped['optimizer']['param_groups'] == two_steps['optimizer']['param_groups']
    assert stopped['param_schedulers'] == two_steps['param_schedulers']
    batch = saved(tmp_path / 'non_finite_iter_3_batch_rank_0.pth')
    assert [bool(image.isnan().any()) for image in batch['inputs']] == [place == BAD for place in range(20, 30)]


@pytest.mark.slow
def test_a_skipped_step_changes_nothing_and_is_counted(tmp_path):
    states = []
    for name, data in (('broken', BrokenImages()), ('without', BrokenImages(left_out=True))):
        runner = run(tmp_path / name, data, 'skip', param_scheduler=None)
        runner.train()
        states.append([runner.model.state_dict(), runner.optim_wrapper.state_dict()['state']])
        assert runner.message_hub.get_info('skipped_steps', 0) == (name == 'broken')
    assert_same(*states)
    log = next(tmp_path.glob('broken/*/*.log')).read_text()
    assert 'the gradient of iteration 3 is not finite' in log


@pytest.mark.slow
def test_too_many_bad_steps_in_a_row_stop_the_run(tmp_path):
    data = BrokenImages(broken=False)
    data.inputs[20:] = torch.nan
    runner = run(tmp_path, data, 'skip', max_skips=2)
    with pytest.raises(RunStopped, match='the gradient of iteration 5 .* after 2 skipped steps in a row'):
        runner.train()
    assert runner.message_hub.get_info('skipped_steps') == 2
    assert saved(tmp_path / 'before_non_finite_iter_5.pth')['meta']['iter'] == 4


@pytest.mark.slow
def test_a_checkpoint_is_not_saved_after_a_bad_step(tmp_path):
    class SaveAfterThird(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter + 1 == 3:
                runner.save_checkpoint(runner.work_dir, 'third.pth')

    runner = run(tmp_path, BrokenImages())
    runner.register_hook(SaveAfterThird())
    with pytest.raises(RunStopped, match='iteration 3'):
        runner.train()
    assert not (tmp_path / 'third.pth').exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ('optimizer', 'waits'),
    [
        (dict(type='SGD', lr=0.01), False),
        (dict(type='SGD', lr=0.01, momentum=0.9, fused=True), False),
        (dict(type='AdamW', lr=0.01, fused=True), False),
        (dict(type='AdamW', lr=0.01), True),  # the number of its steps is on the host
    ],
    ids=str,
)
def test_the_host_waits_only_where_an_optimizer_keeps_numbers_there(optimizer, waits, tmp_path):
    steps = runs.waits_of_steps(tmp_path, optim_wrapper=dict(optimizer=optimizer))
    of_check = [any(wait.file == 'r2kd_mm/hooks/finite.py' for wait in step) for step in steps]
    assert of_check == [True, *[waits] * 3]
