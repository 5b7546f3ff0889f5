"""The benchmarks are scripts: they import each other as they do when Python runs one."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
sys.path += [str(BENCHMARKS / folder) for folder in ('speed', 'accuracy', 'accuracy/evidence', 'gpu', '.')]
