"""Measure the teachers' accuracy and check labels and classes before the first step; stop the run if a check fails."""

from __future__ import annotations

import itertools
from collections.abc import Sized
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from mmpretrain.evaluation import Accuracy, MultiLabelMetric
from mmpretrain.structures import DataSample

from r2kd_mm.classifiers import num_classes
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.distillers.student import unwrap_student
from r2kd_mm.engine import unwrapped_model
from r2kd_mm.engine.classes import check_same_classes, classes_of
from r2kd_mm.engine.wrapped_data import skip_counters
from r2kd_mm.hooks.distiller import TEACHER_ACCURACIES, unwrapped_distiller
from r2kd_mm.hooks.guessing import chance_limit
from r2kd_mm.hooks.teaching import check_label, check_losses, check_one_label_each
from r2kd_mm.hooks.unlabelled import check_unlabelled
from r2kd_mm.labels import UNLABELLED
from r2kd_mm.published import PublishedTeacher, published_teacher
from r2kd_mm.registry import HOOKS

# In the message hub: number of broken images that the training has left out so far.
SKIPPED_IMAGES = 'skipped_images'
RANKED = (Accuracy, MultiLabelMetric)  # metrics of the most likely classes


@HOOKS.register_module()
class TeacherCheckHook(Hook):
    """Hook that measures the teachers on the validation set before training, and stops if one is not accurate enough.

    If a distillation brings no gain, the teacher usually has wrong weights, normalisation or class order. The accuracy
    of a copy, such as the pruned teacher, is logged but not checked. The visualizer gets all accuracies in percent, as
    ``teacher/accuracy``, ``pruned_teacher/accuracy`` and so on.

    Args:
        min_teacher_accuracy: Minimum top-1 accuracy of a teacher in percent; below this value, the run stops.
        num_batches: Number of validation batches to measure on each process, instead of all. This accuracy is logged
            and checked, but not stored: visualizer, checkpoints and tables only hold accuracies on all images.
        published: Entry of :data:`~r2kd_mm.published.TEACHERS`, such as ``'cifar100/resnet56'``. The run stops if the
            accuracy of ``teacher`` differs from it. The check is skipped if the validation set has another size.
        tolerance: Largest allowed difference from the published accuracy, in percentage points, > 0.

    Raises:
        ValueError: The teacher's checkpoint names other classes than the data set, or another order. Or its accuracy is
            below the minimum, differs from the published one, or is no better than guessing: within three standard
            deviations of ``100 / num_classes`` percent; with very few images, at most ``100 / num_classes`` percent.
            ``allow_untrained_teacher=True`` in the distiller turns an error about the accuracy into a warning.

    Example:
        >>> custom_hooks = [dict(type='TeacherCheckHook', min_teacher_accuracy=70.0)]  # in a config
        >>> HOOKS.build(custom_hooks[0]).min_teacher_accuracy
        70.0
    """

    def __init__(
        self,
        min_teacher_accuracy: float | None = None,
        num_batches: int | None = None,
        published: str | None = None,
        tolerance: float = 0.5,
    ) -> None:
        if min_teacher_accuracy is not None and not 0 <= min_teacher_accuracy <= 100:
            raise ValueError(f'min_teacher_accuracy is in percent, 0 to 100, got {min_teacher_accuracy}')
        if num_batches is not None and num_batches < 1:
            raise ValueError(f'num_batches must be at least 1, or None for the whole set, got {num_batches}')
        if not 0 < tolerance < 100:
            raise ValueError(f'tolerance is in percent points, above 0 and below 100, got {tolerance}')
        self.min_teacher_accuracy = min_teacher_accuracy
        self.num_batches = num_batches
        self.published = None if published is None else published_teacher(published)
        self.tolerance = tolerance

    def before_train(self, runner: Runner) -> None:
        """Score every teacher, log its accuracy, and check the accuracy unless the teacher is a copy."""
        distiller = unwrapped_distiller(runner, type(self).__name__)
        if not distiller.teachers:
            runner.logger.info('The teacher is not scored: its logits are replayed, and it is not loaded.')
            return
        for teacher in distiller.trained_teachers.values():
            check_same_classes(
                getattr(teacher, '_dataset_meta', {}).get('classes'),
                classes_of(runner.train_dataloader.dataset),
                owners="the teacher's checkpoint and the training data",
                remedy='train on the data that the teacher knows, in its order',
            )
        if runner.val_loop is None:
            if self.min_teacher_accuracy is not None:
                raise ValueError(
                    'min_teacher_accuracy needs a validation set to score the teacher on, but this run '
                    'has none (--no-validate?)'
                )
            runner.logger.warning('The teacher was not scored: this run has no validation set.')
            return
        accuracies: dict[str, float] = {}
        runner.message_hub.update_info(TEACHER_ACCURACIES, accuracies)
        for name in distiller.teachers:
            accuracy, count = self._score(runner, distiller, name)
            runner.logger.info(
                f'{name.replace("_", " ").capitalize()}: {accuracy:.2f} % top-1 on {count} images of the validation set'
            )
            if count == len(runner.val_dataloader.dataset):
                accuracies[name] = accuracy
                runner.visualizer.add_scalar(f'{name}/accuracy', accuracy)
            if name in distiller.trained_teachers:
                self._judge(runner, distiller, name, accuracy, count)

    def _judge(self, runner: Runner, distiller: LogitDistiller, name: str, accuracy: float, count: int) -> None:
        is_main = distiller.teachers[name] is distiller.teacher
        published, images = self.published if is_main else None, len(runner.val_dataloader.dataset)
        if published is not None and published.images != images:
            runner.logger.warning(
                f'The published {published.accuracy} % of the teacher are of {published.images} images, so they are '
                f'not compared with its accuracy on the {images} images here.'
            )
            published = None
        fault = self._find_fault(num_classes(distiller.teachers[name]), published, accuracy, count)
        if fault is None:
            return
        which = 'teacher' if is_main else f'teacher {name!r}'
        message = f'the {which} scores {accuracy:.2f} % on {count} images of the validation set, {fault}'
        if not distiller.allow_untrained_teacher:
            raise ValueError(f'{message}; {_WHAT_TO_CHECK}')
        runner.logger.warning(f'Trained on because of allow_untrained_teacher=True: {message}.')

    def _find_fault(
        self, classes: int | None, published: PublishedTeacher | None, accuracy: float, count: int
    ) -> str | None:
        """Describe what is wrong with the teacher's accuracy in percent on ``count`` images; empty if nothing is."""
        if self.min_teacher_accuracy is not None and accuracy < self.min_teacher_accuracy:
            return f'below min_teacher_accuracy={self.min_teacher_accuracy}'
        if published is not None and abs(accuracy - published.accuracy) > self.tolerance:
            return (
                f'but {published.accuracy} % are published ({published.source}), and the tolerance is '
                f'{self.tolerance} (a teacher of your own: published=None)'
            )
        if classes is not None:
            limit = chance_limit(classes, count)
            if accuracy <= limit:
                return f'no better than guessing among {classes} classes (up to {limit:.2f} %)'
        return None

    @torch.no_grad()
    def _score(self, runner: Runner, distiller: LogitDistiller, name: str) -> tuple[float, int]:
        """Return the top-1 accuracy of the teacher ``name`` in percent, and the number of scored images."""
        loader = runner.val_loop.dataloader
        count = len(loader.dataset)
        if self.num_batches is not None:
            count = min(count, self.num_batches * loader.batch_size * runner.world_size)
        evaluator = Evaluator([Accuracy()])
        for batch in itertools.islice(loader, self.num_batches):
            data = distiller.data_preprocessor(batch, training=False)
            scores = distiller.ask(name, data['inputs']).float().softmax(dim=1)
            evaluator.process(
                [
                    DataSample().set_gt_label(sample.gt_label).set_pred_score(score)
                    for sample, score in zip(data['data_samples'], scores)
                ]
            )
        return evaluator.evaluate(count)['accuracy/top1'], count


_WHAT_TO_CHECK = (
    'check that teacher_ckpt is the trained one, that data_preprocessor normalises as the teacher was '
    'trained, and that the classes of the data set have the order that the teacher knows; a trial run with any '
    'teacher needs model.allow_untrained_teacher=True'
)


@HOOKS.register_module()
class DataCheckHook(Hook):
    """Hook that refuses data which do not fit the model, and counts the images that are left out.

    All labels of the training and the validation set are looked at, where the data set tells them without loading the
    images: seconds for ImageNet. What ``broken='skip'`` in :class:`~r2kd_mm.datasets.LoadImageFromFile` leaves out of
    the training is logged after each epoch and after the last one. The number of the whole run, over all processes and
    their data workers, is in the message hub, and so in every checkpoint, as :data:`SKIPPED_IMAGES`.

    Raises:
        ValueError: A data set has another number of classes than the head, or a label beyond them; the validation set
            has other classes than the training set, or another order; it is to leave out broken images; a loss has no
            gradient with so few classes or so few images a batch; an accuracy is to be of more classes than there are;
            or an image to distil on has several labels, or class shares that are no distribution.

    Example:
        >>> custom_hooks = [dict(type='DataCheckHook')]  # in a config
        >>> isinstance(HOOKS.build(custom_hooks[0]), DataCheckHook)
        True
    """

    def before_train(self, runner: Runner) -> None:
        """Check the training data, and the validation data where there is any."""
        model = unwrapped_model(runner)
        self._distils = isinstance(model, LogitDistiller)
        head_classes = num_classes(unwrap_student(model))
        loaders = dict(train_dataloader=runner.train_dataloader)
        if runner.val_loop is not None:
            loaders['val_dataloader'] = runner.val_dataloader
        for name, loader in loaders.items():
            classes = classes_of(loader.dataset)
            if classes is not None and head_classes is not None and len(classes) != head_classes:
                raise ValueError(
                    f'{name} has {len(classes)} classes, but the head of the model has num_classes='
                    f'{head_classes}; set both to the same number'
                )
            if head_classes is not None:
                unlabelled = _check_labels(name, loader.dataset, head_classes, self._distils)
                if unlabelled:
                    check_unlabelled(model, name, loader, unlabelled)
        if 'val_dataloader' in loaders:
            trained, validated = (classes_of(loader.dataset) for loader in loaders.values())
            check_same_classes(trained, validated, owners=' and '.join(loaders))
            if skip_counters(runner.val_dataloader.dataset):
                raise ValueError(
                    'val_dataloader must score every image, but its pipeline leaves out broken ones; take '
                    "broken='skip' out of it: only training data have replacements"
                )
        _check_topk(runner, head_classes)
        if isinstance(model, LogitDistiller):
            classes = classes_of(runner.train_dataloader.dataset)
            known = head_classes or (len(classes) if classes else None)
            check_losses(model, known, runner.train_dataloader, runner.world_size, runner.logger)
        self._skip_counters = skip_counters(runner.train_dataloader.dataset)
        self._skipped = self._count_skipped()

    def before_test(self, runner: Runner) -> None:
        """Check the metrics of the test."""
        _check_topk(runner, num_classes(unwrap_student(unwrapped_model(runner))))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Refuse a batch whose labels are not distributions; a data set may compute its labels."""
        if self._distils and data_batch is not None:
            check_one_label_each(data_batch['data_samples'])

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the number of images that this epoch left out."""
        if not self._skip_counters:
            return
        skipped = self._count_skipped()
        new, self._skipped = skipped - self._skipped, skipped
        total = runner.message_hub.runtime_info.get(SKIPPED_IMAGES, 0) + new
        runner.message_hub.update_info(SKIPPED_IMAGES, total)
        if new:
            runner.logger.warning(
                f'Broken images left out in epoch {runner.epoch + 1}: {new}; in this run so far: {total}.'
            )

    def after_train(self, runner: Runner) -> None:
        """Log the number of images that the run left out."""
        if self._skip_counters:
            total = runner.message_hub.runtime_info.get(SKIPPED_IMAGES, 0)
            runner.logger.info(f'Broken images left out in this run: {total}.')

    def _count_skipped(self) -> int:
        """Count the images that all processes have left out since they started."""
        count = torch.tensor(sum(counter.num_skipped for counter in self._skip_counters))
        all_reduce(count)
        return int(count)


def _check_topk(runner: Runner, classes: int | None) -> None:
    """Refuse a top-k accuracy with more classes than the head has; it would fail after a whole epoch."""
    if classes is None:
        return
    owners: list[tuple[str, Any]] = []
    for name, loop in (('val_evaluator', runner._val_loop), ('test_evaluator', runner._test_loop)):
        if isinstance(loop, BaseLoop):  # it is built
            owners += [(name, metric) for metric in loop.evaluator.metrics if isinstance(metric, RANKED)]
    head = getattr(unwrap_student(unwrapped_model(runner)), 'head', None)
    if getattr(head, 'cal_acc', False):
        owners.append(('the head of the model', head))
    for place, owner in owners:
        largest = max(np.ravel(getattr(owner, 'topk', None) or 1))
        if largest > classes:
            raise ValueError(
                f'{place} measures the accuracy among the {largest} most likely classes, and the head has {classes}; '
                f'set topk of {place} to numbers up to {classes}, such as topk=(1,)'
            )


def _check_labels(name: str, dataset: Sized, classes: int, distils: bool) -> int:
    """Refuse labels that the head does not know; return the number of samples that have none."""
    get_data_info = getattr(dataset, 'get_data_info', None)
    if get_data_info is None:
        return 0
    unlabelled = 0
    for index in range(len(dataset)):
        info = get_data_info(index)
        label = info.get('gt_label', 0)
        shares = info.get('gt_score')
        unlabelled += UNLABELLED in info
        if (
            type(label) is int and 0 <= label < classes and shares is None
        ):  # nearly always, and ImageNet has 1.28 million
            continue
        if distils:
            check_label(f'{name}: sample {index}{_path(info)}', label, shares)
        if any(number not in range(classes) for number in np.ravel(label)):
            raise ValueError(
                f'{name} has a label out of range: sample {index}{_path(info)} has the label {label}, and '
                f'num_classes={classes} of the head allows 0 to {classes - 1}; fix the label, or set num_classes to '
                'the number of classes in the data'
            )
    return unlabelled


def _path(info: dict) -> str:
    return f' ({info["img_path"]})' if 'img_path' in info else ''
