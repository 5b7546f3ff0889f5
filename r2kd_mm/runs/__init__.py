"""Compare methods over several seeds: train every config with every seed, and compute statistics of the accuracies."""

from r2kd_mm.moved import old_names
from r2kd_mm.runs.compare import collect, complete, preview, report_failures, run_to_exit
from r2kd_mm.runs.engines import make_engine
from r2kd_mm.runs.networks import accuracy, load_network, trained_student, validation_logits
from r2kd_mm.runs.plan import Method, Run, load_config, plan_runs
from r2kd_mm.runs.result import Result, last_checkpoint, load_result
from r2kd_mm.runs.state import State, look_at
from r2kd_mm.runs.statistics import Difference, Spread, paired_difference, spread
from r2kd_mm.runs.workers import LocalEngine

__all__ = [
    'Difference',
    'LocalEngine',
    'Method',
    'Result',
    'Run',
    'Spread',
    'State',
    'accuracy',
    'collect',
    'complete',
    'last_checkpoint',
    'load_config',
    'load_network',
    'load_result',
    'look_at',
    'make_engine',
    'paired_difference',
    'plan_runs',
    'preview',
    'report_failures',
    'run_to_exit',
    'spread',
    'trained_student',
    'validation_logits',
]

__getattr__ = old_names(__name__)
