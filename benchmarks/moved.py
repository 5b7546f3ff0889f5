"""Warn that a benchmark has moved, then run it from its new path; the old paths are links to this file, moved.py."""

from __future__ import annotations

import runpy
import sys
import warnings
from pathlib import Path

# the folder of each script now, below that of this file
FOLDERS = {
    'digits_rank_term.py': 'accuracy',
    'digits_replay.py': 'accuracy',
    'epoch.py': 'speed',
    'evidence/conditions.py': 'accuracy',
    'evidence/run.py': 'accuracy',
    'loader.py': 'speed',
    'rank_estimators.py': 'speed',
    'startup.py': 'speed',
    'step_time.py': 'speed',
}


def main() -> None:
    """Warn that the path is old, then run the script at its new path."""
    link = Path(sys.argv[0]).absolute()
    old = next(name for name in FOLDERS if link.match(f'benchmarks/{name}'))
    new = f'{FOLDERS[old]}/{old}'
    warnings.warn(
        f'benchmarks/{old} is now benchmarks/{new}; the old path works until version 0.3', FutureWarning, stacklevel=2
    )
    script = link.parents[old.count('/')] / new
    sys.argv[0], sys.path[0] = str(script), str(script.parent)
    runpy.run_path(str(script), run_name='__main__')


if __name__ == '__main__':
    main()
