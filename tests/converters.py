"""Run the tools of tools/dataset_converters in the test process, which has already imported PyTorch and MMEngine."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import toolbox

sys.path.insert(0, str(toolbox.ROOT / 'tools/dataset_converters'))  # as Python does for a script in that folder

CLASSES, TRAIN, VAL = 4, 3, 2
CONTENTS = (str(CLASSES), str(CLASSES * TRAIN), str(CLASSES * VAL))


def make_mini(name: str, folder: Path, *options: str) -> Path:
    """Write a miniature of 4 classes, with 3 training and 2 validation or test images each, or as ``options`` say."""
    sizes = ('--classes', str(CLASSES), '--train', str(TRAIN), '--val', str(VAL))
    assert importlib.import_module('make_mini').main([name, str(folder), *sizes, *options]) == 0
    return folder


def prepare(name: str, source: Path, dst: Path, *options: str) -> Path:
    """Run ``prepare_<name>.py``; an error ends in ``SystemExit(1)``."""
    make_recipe = importlib.import_module(f'prepare_{name}').make_recipe
    importlib.import_module('preparation').main(name, make_recipe, [str(source), str(dst), *options])
    return dst


def contents(folder: Path) -> dict[str, bytes]:
    """All files below ``folder``."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}
