#!/usr/bin/env python
"""Check that the installed packages can train, even if r2kd_mm cannot be imported; see r2kd_mm/check_env.py."""

import runpy
from pathlib import Path

if __name__ == '__main__':
    # by path: importing the package would run its compat module, which is what may fail
    clone, installed = Path(__file__).resolve().parents[1] / 'r2kd_mm', Path(__file__).resolve().parents[2]
    package = clone if clone.is_dir() else installed  # this file is tools/ of the one, .mim/tools/ of the other
    runpy.run_path(str(package / 'check_env.py'), run_name='__main__')
