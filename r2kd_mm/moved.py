"""Keep the import paths and attributes of version 0.1 working, with a ``FutureWarning`` that states the new name."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from operator import attrgetter
from types import ModuleType
from typing import Any, TypeVar

Class = TypeVar('Class', bound=type)

# old name of a module: its name now; what lies below a package moves with it unless it is listed too
MODULES = {
    'r2kd_mm.analysis': 'r2kd_mm.report',
    'r2kd_mm.analysis.moved': 'r2kd_mm.report.teacher_files',
    'r2kd_mm.analysis.runs': 'r2kd_mm.report.trained_runs',
    'r2kd_mm.comparison': 'r2kd_mm.runs',
    'r2kd_mm.comparison.logits': 'r2kd_mm.runs.networks',
    'r2kd_mm.comparison.plots': 'r2kd_mm.report.comparison',
    'r2kd_mm.comparison.pruned': 'r2kd_mm.report.pruned',
    'r2kd_mm.comparison.report': 'r2kd_mm.report.table',
    'r2kd_mm.comparison.runs': 'r2kd_mm.runs.plan',
    'r2kd_mm.datasets.published': 'r2kd_mm.published',
    'r2kd_mm.distillers.ensemble': 'r2kd_mm.teachers.ensemble',
    'r2kd_mm.distillers.folding': 'r2kd_mm.teachers.folding',
    'r2kd_mm.distillers.frozen': 'r2kd_mm.teachers.frozen',
    'r2kd_mm.distillers.identity': 'r2kd_mm.teachers.identity',
    'r2kd_mm.distillers.logit_store': 'r2kd_mm.teachers.store',
    'r2kd_mm.distillers.outputs': 'r2kd_mm.classifiers',
    'r2kd_mm.distillers.replay': 'r2kd_mm.teachers.replay',
    'r2kd_mm.distillers.teacher': 'r2kd_mm.teachers.build',
    'r2kd_mm.distillers.teacher_engine': 'r2kd_mm.teachers.engine',
    'r2kd_mm.distillers.weighting': 'r2kd_mm.teachers.weighting',
}
# old place of a class or function: the module where it is now, with its name there if that has changed
NAMES = {
    'r2kd_mm.compat.RestrictedUnpickler': 'r2kd_mm.plain',
    'r2kd_mm.compat.init_cpu_process_group': 'r2kd_mm.distributed',
    'r2kd_mm.compat.load_checkpoint_file': 'r2kd_mm.checkpoint',
    'r2kd_mm.compat.load_from_local': 'r2kd_mm.checkpoint',
    'r2kd_mm.compat.load_url': 'r2kd_mm.checkpoint',
    'r2kd_mm.distillers.ConfidenceWeights': 'r2kd_mm.teachers',
    'r2kd_mm.distillers.FixedWeights': 'r2kd_mm.teachers',
    'r2kd_mm.distillers.LearnedWeights': 'r2kd_mm.teachers',
    'r2kd_mm.distillers.TeacherEnsemble': 'r2kd_mm.teachers',
    'r2kd_mm.report.Method': 'r2kd_mm.report.measurements:MeasuredMethod',
    'r2kd_mm.report.comparison.plot_pruned_teachers': 'r2kd_mm.report.pruned',
    'r2kd_mm.report.exhibits.Summary': 'r2kd_mm.report.summary',
    'r2kd_mm.report.exhibits.make_summary': 'r2kd_mm.report.summary',
    'r2kd_mm.report.figures.to_png': 'r2kd_mm.report.style',
    'r2kd_mm.report.figures.to_svg': 'r2kd_mm.report.style',
    'r2kd_mm.report.measure.Method': 'r2kd_mm.report.measurements:MeasuredMethod',
    'r2kd_mm.report.measure.Teacher': 'r2kd_mm.report.measurements:MeasuredTeacher',
    'r2kd_mm.report.numbers.agreement': 'r2kd_mm.report.numbers:split_agreement',
    'r2kd_mm.report.table.write_report': 'r2kd_mm.report.table:write_results',
    'r2kd_mm.runs.PrunedTeacher': 'r2kd_mm.report.pruned',
    'r2kd_mm.runs.Row': 'r2kd_mm.report.table',
    'r2kd_mm.runs.compare.write_comparison': 'r2kd_mm.report.comparison',
    'r2kd_mm.runs.environment': 'r2kd_mm.environment',
    'r2kd_mm.runs.judge': 'r2kd_mm.report.pruned',
    'r2kd_mm.runs.make_rows': 'r2kd_mm.report.table',
    'r2kd_mm.runs.plan.METRIC': 'r2kd_mm.runs.logs',
    'r2kd_mm.runs.plan.Result': 'r2kd_mm.runs.result',
    'r2kd_mm.runs.plan.SCALARS': 'r2kd_mm.runs.logs',
    'r2kd_mm.runs.plan.State': 'r2kd_mm.runs.state',
    'r2kd_mm.runs.plan.fingerprint': 'r2kd_mm.runs.state:settings_digest',
    'r2kd_mm.runs.plan.images_of': 'r2kd_mm.runs.state',
    'r2kd_mm.runs.plan.last_checkpoint': 'r2kd_mm.runs.result',
    'r2kd_mm.runs.plan.load_result': 'r2kd_mm.runs.result',
    'r2kd_mm.runs.plan.logged_rows': 'r2kd_mm.runs.logs',
    'r2kd_mm.runs.plan.look_at': 'r2kd_mm.runs.state',
    'r2kd_mm.runs.plan.state_of': 'r2kd_mm.runs.state',
    'r2kd_mm.runs.plan.train': 'r2kd_mm.runs.training',
    'r2kd_mm.runs.plot_accuracy': 'r2kd_mm.report.comparison',
    'r2kd_mm.runs.plot_class_correlations': 'r2kd_mm.report.comparison',
    'r2kd_mm.runs.plot_differences': 'r2kd_mm.report.comparison',
    'r2kd_mm.runs.plot_pruned_teachers': 'r2kd_mm.report.pruned',
    'r2kd_mm.runs.pruned_to_csv': 'r2kd_mm.report.pruned',
    'r2kd_mm.runs.pruned_to_markdown': 'r2kd_mm.report.pruned',
    'r2kd_mm.runs.to_markdown': 'r2kd_mm.report.table',
    'r2kd_mm.runs.write_comparison': 'r2kd_mm.report.comparison',
    'r2kd_mm.runs.write_report': 'r2kd_mm.report.table:write_results',
    'r2kd_mm.teachers.build.classifier_logits': 'r2kd_mm.classifiers',
    'r2kd_mm.teachers.build.num_classes': 'r2kd_mm.classifiers',
}
# class: old name of each attribute: where it is now. To set one, or to override one in a subclass, would do nothing
ATTRIBUTES = {
    'LogitDistiller': {
        'augmentation': 'step.views.augmentation',
        'batch_wise_losses': 'step.objective.batch_wise',
        'gather': 'step.objective.gather',
        'joint_views': 'step.student.joint_views',
        'replay': 'step.targets.replay',
        'set_augmented_scale': 'step.objective.set_augmented_scale',
        'set_loss_scale': 'step.objective.set_loss_scale',
        'step_logits': 'step.logits',
        'task_loss_weight': 'step.objective.task_loss_weight',
        'teacher_engine': 'step.targets.engine',
    }
}
# class: its methods that a subclass could override and nobody calls now
REMOVED = {'LogitDistiller': ('_losses', '_mix', '_run_teachers', '_study', '_teach', '_views', 'fill_replay')}


def keep_old_modules() -> None:
    """Let ``import`` find the modules in :data:`MODULES` by their old names; a second call does nothing."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MovedFinder())  # before a folder of the old name, which git leaves if it is not empty


def old_names(module: str) -> Callable[[str], Any]:
    """Make the ``__getattr__`` of a module that had the names in :data:`NAMES` (PEP 562).

    Args:
        module: Its ``__name__``.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter('ignore')
        ...     old_names('r2kd_mm.distillers')('FixedWeights').__module__
        'r2kd_mm.teachers.weighting'
    """

    def __getattr__(name: str) -> Any:
        old = f'{module}.{name}'
        if old not in NAMES:
            raise AttributeError(f'module {module!r} has no attribute {name!r}')
        place, _, new = NAMES[old].partition(':')
        _warn(old, f'{place}.{new or name}')
        return getattr(import_module(place), new or name)

    return __getattr__


def new_name(old: str) -> str | None:
    """Return the present name of a module that had the name ``old``; ``None`` if it was not moved.

    >>> new_name('r2kd_mm.distillers.teacher')
    'r2kd_mm.teachers.build'
    """
    parent, below = old, ''
    while parent:
        if parent in MODULES:
            return MODULES[parent] + below
        parent, _, last = parent.rpartition('.')
        below = f'.{last}{below}'
    return None


def keep_old_attributes(cls: Class) -> Class:
    """Let a class read what :data:`ATTRIBUTES` lists for it by the old names, and refuse to set or override it.

    An attribute that the class still has is read without a warning.
    """
    moved, removed = ATTRIBUTES[cls.__name__], REMOVED[cls.__name__]
    parent: Any = super

    def __init_subclass__(subclass: type, **kwargs: Any) -> None:
        parent(cls, subclass).__init_subclass__(**kwargs)
        for name in vars(subclass).keys() & {*moved, *removed}:
            where = f'it is now model.{moved[name]}' if name in moved else 'the step has other parts now'
            raise TypeError(
                f'{subclass.__name__} overrides {name}, which nobody calls: {where}; docs/own_distiller.md says what '
                'to override'
            )

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if name in moved:
            raise AttributeError(f'{name} of a {type(self).__name__} is now {moved[name]}; set it there')
        parent(cls, self).__setattr__(name, value)

    def __getattr__(self: Any, name: str) -> Any:
        if name not in moved:
            return parent(cls, self).__getattr__(name)
        _warn(f'{name} of a {type(self).__name__}', moved[name])
        return attrgetter(moved[name])(self)

    methods: dict[str, Any] = dict(__setattr__=__setattr__, __getattr__=__getattr__)
    for name, method in dict(methods, __init_subclass__=classmethod(__init_subclass__)).items():
        setattr(cls, name, method)
    return cls


class _MovedFinder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        new = new_name(name) if name.startswith('r2kd_mm.') else None
        return None if new is None else ModuleSpec(name, _MovedLoader(new))


class _MovedLoader(Loader):
    """Give the module of the new name under the old one: one module, so one set of classes."""

    def __init__(self, new: str) -> None:
        self.new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        _warn(spec.name, self.new)
        module = import_module(self.new)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the import system has replaced it by that of the old name


def _warn(old: str, new: str) -> None:
    warnings.warn(f'{old} is now {new}; the old name works until version 0.3', FutureWarning, stacklevel=3)
