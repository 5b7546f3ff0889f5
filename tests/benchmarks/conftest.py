"""Make the benchmark scripts importable by their bare names, as they are when Python runs one of them."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / 'benchmarks'
sys.path += [str(BENCHMARKS / folder) for folder in ('speed', 'accuracy', 'accuracy/evidence', 'gpu', '.')]
