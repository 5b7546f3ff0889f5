"""Record in each checkpoint how it was trained, and refuse to resume a run after a change that alters its result.

Such changes are, for example, another model, optimizer or training set. Other changes are only logged.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner

from r2kd_mm.classifiers import normalisation
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.engine import unwrapped_model
from r2kd_mm.engine.config_fields import config_fields, flatten
from r2kd_mm.engine.fingerprint import fingerprint
from r2kd_mm.engine.schedule import ScheduleHook
from r2kd_mm.engine.train_loop import SAMPLER_SEED
from r2kd_mm.environment import commit, versions
from r2kd_mm.hooks.distiller import TEACHER_ACCURACIES
from r2kd_mm.registry import HOOKS
from r2kd_mm.teachers.build import RECORD_KEY

# Fields of a config that determine the result of a run from a given state on, and exceptions among them.
DECISIVE = (
    'auto_scale_lr',
    'custom_hooks',
    'data_preprocessor',
    'model',
    'optim_wrapper',
    'param_scheduler',
    'randomness',
    'sync_bn',
    'train_cfg',
    'train_dataloader',
)
HARMLESS = re.compile(
    r'train_cfg\.(max_epochs|max_iters|val_begin|val_interval|dynamic_intervals\b.*)'
    r'|train_dataloader\.(num_workers|persistent_workers|pin_memory|prefetch_factor|multiprocessing_context)'
    r'|train_dataloader\.(.*\.)?data_root'  # the data may have been moved: the fingerprint tells whether they changed
    # these change nothing
    r'|custom_hooks\.(RunRecord|DataCheck|TeacherCheck|FiniteCheck|GradientCheck|RankState)Hook\b.*'
)
REPORTED = ('val_dataloader', 'val_evaluator', 'val_cfg', 'default_hooks', 'env_cfg', 'launcher', 'work_dir')
_ABSENT = object()
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60


@HOOKS.register_module()
class RunRecordHook(Hook):
    """Hook that writes a record of the run to log and checkpoints, and on resume compares the old and the new record.

    The record is ``checkpoint['meta']['r2kd_mm']``. It holds the versions, the commit of this package, the seed, the
    number of processes, the normalisation, a fingerprint of each data set, a digest of each teacher's weights, and the
    accuracies that :class:`~r2kd_mm.hooks.TeacherCheckHook` measured. MMEngine's own ``meta`` holds the full config. A
    later distillation reads the normalisation and the classes (``dataset_meta``) from its teacher's checkpoint, and
    compares them with its own.

    A resumed run logs each difference from the run that wrote the checkpoint. A difference that changes the result
    is an error: in the fields :data:`DECISIVE` of the config (except those that match :data:`HARMLESS`), in the
    training data, in the teachers' weights, or in the number of processes. Other differences are only logged, such as
    versions, commit, validation, work dir, machine, or another path of the same weights or data.

    Args:
        allow_changes: Only log all differences, instead of an error (``tools/train.py --allow-changes``).

    Raises:
        ValueError: The resumed run differs from the run of its checkpoint in something that changes the result.

    Example:
        >>> custom_hooks = [dict(type='RunRecordHook')]  # in a config
        >>> HOOKS.build(custom_hooks[0]).allow_changes
        False
    """

    priority = 'HIGH'  # before the hooks that measure anything

    def __init__(self, allow_changes: bool = False) -> None:
        self.allow_changes = allow_changes
        self._loaded_meta: dict[str, Any] = {}

    def before_run(self, runner: Runner) -> None:
        """Keep the config as given; on resume, MMEngine writes the seed of the checkpoint into it."""
        self._config = runner.cfg.pretty_text
        trains = isinstance(runner._train_loop, BaseLoop)  # built by Runner.train() alone, which a test is not
        if trains and not any(isinstance(hook, ScheduleHook) for hook in runner.hooks):  # ResumableTrainLoop brings one
            runner.register_hook(ScheduleHook())  # of a lower priority, so that its before_run comes next

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the origin of the checkpoint; apply another seed if changes are allowed."""
        meta = checkpoint.get('meta') or {}
        self._loaded_meta = dict(meta)
        seed = runner._randomness_cfg.get('seed')
        if runner._resume and self.allow_changes and seed is not None and seed != meta.get('seed'):
            meta['seed'] = seed  # MMEngine takes that of the checkpoint
            checkpoint['message_hub']['runtime_info'].pop(SAMPLER_SEED, None)

    def before_train(self, runner: Runner) -> None:
        """Collect the record, log it, and compare it with the checkpoint."""
        model = unwrapped_model(runner)
        self.record: dict[str, Any] = dict(
            versions=versions(),
            commit=commit(),
            seed=runner.seed,
            world_size=get_world_size(),
            normalisation=normalisation(getattr(model, 'data_preprocessor', None)),
            train_data=fingerprint(runner.train_dataloader.dataset),
        )
        if isinstance(model, LogitDistiller):
            self.record['teachers'] = model.teacher_digests()
        if runner.val_loop is not None:
            self.record['val_data'] = fingerprint(runner.val_dataloader.dataset)
        runner.logger.info('Origin of this run: ' + ', '.join(f'{key}={value}' for key, value in self.record.items()))
        if runner.iter > 0:  # resumed, not only loaded from
            self._compare(runner)
        self._loaded_meta = {}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the record to the checkpoint."""
        accuracies = runner.message_hub.runtime_info.get(TEACHER_ACCURACIES, {})
        checkpoint['meta'][RECORD_KEY] = dict(self.record, teacher_accuracies=accuracies)

    def _compare(self, runner: Runner) -> None:
        try:
            before = config_fields(self._loaded_meta['cfg'])
        except (KeyError, TypeError, ValueError, SyntaxError, RecursionError):
            runner.logger.warning('The checkpoint does not say what it was made from: nothing could be compared.')
            return
        before |= flatten(self._loaded_meta.get(RECORD_KEY) or {}, 'record')
        now = config_fields(self._config) | flatten(self.record, 'record')
        changes = {
            field: f'{field}: {_show(before, field)} -> {_show(now, field)}'
            for field in sorted(before.keys() | now.keys())
            if before.get(field, _ABSENT) != now.get(field, _ABSENT)
        }
        excused = {field for field in changes if _is_excused(field, before)}
        refused = [change for field, change in changes.items() if is_decisive(field) and field not in excused]
        reported = [change for field, change in changes.items() if _is_reported(field) or field in excused]
        if refused and not self.allow_changes:
            raise ValueError(
                'this run is not the one that wrote the checkpoint it resumes from: '
                f'{"; ".join(refused)}. Undo the change, start again in another --work-dir, or continue with it by '
                '--allow-changes'
            )
        if refused or reported:
            runner.logger.warning(f'Resumed with changes: {"; ".join(refused + reported)}')


def is_decisive(field: str) -> bool:
    """Tell whether a change of this field, such as ``'optim_wrapper.optimizer.lr'``, changes the result."""
    if field.startswith('record.'):
        return field.startswith(('record.world_size', 'record.train_data', 'record.teachers'))
    return field.split('.')[0] in DECISIVE and not HARMLESS.fullmatch(field)


def _is_excused(field: str, before: Mapping[str, Any]) -> bool:
    """Tell whether a change says nothing about a teacher's weights or about the data.

    The file may have been moved, and the digest tells whether it is another one. Older checkpoints have no digests, or
    the URL in place of the digest of the weights at it, and nothing of the contents of the data.
    """
    if field.startswith('record.teachers.') and '://' in str(before.get(field)):
        return True
    if field == 'record.train_data.contents':
        return field not in before
    has_digests = any(name.startswith('record.teachers.') for name in before)
    return field.endswith('.teacher_ckpt') if has_digests else field.startswith('record.teachers.')


def _is_reported(field: str) -> bool:
    if field.startswith('record.'):
        return field.startswith(('record.versions', 'record.commit', 'record.val_data'))
    return not is_decisive(field) and field.split('.')[0] in (*DECISIVE, *REPORTED)


def _show(fields: dict[str, Any], field: str) -> str:
    return _SHORT.repr(fields[field]) if field in fields else 'absent'
