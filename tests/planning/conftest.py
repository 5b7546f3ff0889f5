"""Memory is measured as the benchmarks do."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / 'benchmarks/speed'))
