"""Compare methods over seeds: train every config with every seed, then tables and plots."""

from r2kd_mm.comparison.compare import collect, complete
from r2kd_mm.comparison.logits import accuracy, class_correlation, trained_student, validation_logits
from r2kd_mm.comparison.plots import plot_accuracy, plot_class_correlations, plot_differences
from r2kd_mm.comparison.report import Row, environment, make_rows, to_markdown, write_report
from r2kd_mm.comparison.runs import Method, Result, Run, State, last_checkpoint, load_result, plan_runs
from r2kd_mm.comparison.statistics import Difference, Spread, paired_difference, spread

__all__ = [
    'Difference',
    'Method',
    'Result',
    'Row',
    'Run',
    'Spread',
    'State',
    'accuracy',
    'class_correlation',
    'collect',
    'complete',
    'environment',
    'last_checkpoint',
    'load_result',
    'make_rows',
    'paired_difference',
    'plan_runs',
    'plot_accuracy',
    'plot_class_correlations',
    'plot_differences',
    'spread',
    'to_markdown',
    'trained_student',
    'validation_logits',
    'write_report',
]
