"""The paths that the benchmarks had in version 0.1 still run, with one warning."""

from pathlib import Path

import moved
import pytest
import toolbox

BENCHMARKS = toolbox.ROOT / 'benchmarks'
LINKS = sorted(path.relative_to(BENCHMARKS) for path in BENCHMARKS.rglob('*.py') if path.is_symlink())


@pytest.mark.parametrize('link', LINKS, ids=str)
def test_a_link_stands_for_a_script(link):
    assert (BENCHMARKS / link).resolve() == BENCHMARKS / 'moved.py'
    assert (BENCHMARKS / moved.FOLDERS[str(link)] / link).is_file()
    assert len(moved.FOLDERS) == len(LINKS) == 9


@pytest.mark.parametrize('link', ['startup.py', 'evidence/run.py'])
def test_an_old_path_runs_the_script_with_a_warning(link):
    finished = toolbox.run_forked(f'../benchmarks/{link}', '--help')
    assert finished.returncode == 0, finished.stderr
    assert f'FutureWarning: benchmarks/{link} is now benchmarks/' in finished.stderr
    assert finished.stdout.startswith(f'usage: {Path(link).name}')
