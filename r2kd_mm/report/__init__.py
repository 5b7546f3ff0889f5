"""Report the results of training runs as numbers, tables, figures and one HTML page."""

from r2kd_mm.moved import old_names
from r2kd_mm.report.analyze import analyze
from r2kd_mm.report.comparison import plot_accuracy, plot_class_correlations, plot_differences, write_comparison
from r2kd_mm.report.exhibits import Exhibit, make_exhibits
from r2kd_mm.report.measure import measure
from r2kd_mm.report.measurements import MeasuredMethod, MeasuredTeacher, Measurements
from r2kd_mm.report.page import write_page
from r2kd_mm.report.pruned import PrunedTeacher, judge, plot_pruned_teachers, pruned_to_csv, pruned_to_markdown
from r2kd_mm.report.summary import Summary, make_summary
from r2kd_mm.report.table import Row, make_rows, to_markdown, write_results
from r2kd_mm.report.trained_runs import RunError, RunGroup, TrainedRun, find_groups

__all__ = [
    'Exhibit',
    'MeasuredMethod',
    'MeasuredTeacher',
    'Measurements',
    'PrunedTeacher',
    'Row',
    'RunError',
    'RunGroup',
    'Summary',
    'TrainedRun',
    'analyze',
    'find_groups',
    'judge',
    'make_exhibits',
    'make_rows',
    'make_summary',
    'measure',
    'plot_accuracy',
    'plot_class_correlations',
    'plot_differences',
    'plot_pruned_teachers',
    'pruned_to_csv',
    'pruned_to_markdown',
    'to_markdown',
    'write_comparison',
    'write_page',
    'write_results',
]

__getattr__ = old_names(__name__)
