"""Keep the import paths of version 0.1 working, each with one warning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

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
