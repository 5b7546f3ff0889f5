"""Compare methods over seeds: train every config with every seed, then tables and plots."""

from r2kd_mm.runs.compare import collect, complete, report_failures, run_to_exit, write_comparison
from r2kd_mm.runs.logits import accuracy, trained_student, validation_logits
from r2kd_mm.runs.plots import plot_accuracy, plot_class_correlations, plot_differences, plot_pruned_teachers
from r2kd_mm.runs.pruned import PrunedTeacher, judge, pruned_to_csv, pruned_to_markdown
from r2kd_mm.runs.report import Row, environment, make_rows, to_markdown, write_report
from r2kd_mm.runs.runs import Method, Result, Run, State, last_checkpoint, load_result, plan_runs
from r2kd_mm.runs.statistics import Difference, Spread, paired_difference, spread

__all__ = [
    'Difference',
    'Method',
    'PrunedTeacher',
    'Result',
    'Row',
    'Run',
    'Spread',
    'State',
    'accuracy',
    'collect',
    'complete',
    'environment',
    'judge',
    'last_checkpoint',
    'load_result',
    'make_rows',
    'paired_difference',
    'plan_runs',
    'plot_accuracy',
    'plot_class_correlations',
    'plot_differences',
    'plot_pruned_teachers',
    'pruned_to_csv',
    'pruned_to_markdown',
    'report_failures',
    'run_to_exit',
    'spread',
    'to_markdown',
    'trained_student',
    'validation_logits',
    'write_comparison',
    'write_report',
]
