"""A run that is no better than guessing gives one warning with advice; other runs give none."""

import pytest
import toys

from r2kd_mm.hooks import ChanceCheckHook


def trained(work_dir, lr=0.0, epochs=3, steps=8, classes=(0, 1, 2, 3, 4), **fields):
    """Log of a run of 4 steps an epoch; the validation images are of ``classes`` in turn."""
    validation = toys.Images(50, seed=1)
    for index, sample in enumerate(validation.samples):
        sample.set_gt_label(classes[index % len(classes)])
    runner = toys.runner(
        toys.classifier(width=8),
        work_dir,
        epochs=epochs,
        val_data=validation,
        hooks=[dict(type='ChanceCheckHook', steps=steps), *fields.pop('hooks', ())],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr), **fields),
    )
    runner.val_dataloader.dataset.get_gt_labels = lambda: [int(sample.gt_label) for sample in validation.samples]
    runner.train()
    return next(work_dir.glob('*/*.log')).read_text()


def test_warns_once_after_the_given_number_of_steps(tmp_path):
    log = trained(tmp_path)
    assert log.count('no better than guessing among 5 classes (up to 36.97 %)') == 1
    assert 'After 8 steps the accuracy is 20.00 % on 50 images' in log
    assert 'Lower the learning rate (now 0), limit the gradient (optim_wrapper.clip_grad=dict(max_norm=5.0))' in log
    assert log.index('Epoch(train) [3]') > log.index('After 8 steps') > log.index('Epoch(train) [2]')


def test_a_shorter_run_is_looked_at_in_its_end(tmp_path):
    assert 'After 4 steps the accuracy is' in trained(tmp_path, epochs=1, steps=1000)


def test_a_limit_that_is_there_is_not_advised(tmp_path):
    log = trained(tmp_path, epochs=2, clip_grad=dict(max_norm=1.0))
    assert 'After 8 steps' in log
    assert 'clip_grad=dict(max_norm=5.0)' not in log


def test_the_same_answer_for_every_image_is_no_better(tmp_path):
    """Of nine tenths of one class, an accuracy of 90 % is that of a constant."""
    log = trained(tmp_path, epochs=2, classes=(0,) * 9 + (1,))
    assert 'no better than guessing' in log
    assert '(up to 90.00 %)' in log


def test_a_run_that_learns_is_silent(tmp_path):
    labels = [int(sample.gt_label) for sample in toys.Images(50, seed=1).samples]
    assert 'no better than guessing' not in trained(tmp_path, lr=0.05, epochs=8, steps=32, classes=labels)


def test_averaged_weights_are_given_time(tmp_path):
    average = dict(type='EMAHook', momentum=0.01)
    assert 'After 16 steps' in trained(tmp_path, epochs=4, steps=8, hooks=[average])  # the last of 16


def test_refuses_no_steps():
    with pytest.raises(ValueError, match='steps must be at least 1, got 0'):
        ChanceCheckHook(steps=0)
