"""Provide small synthetic copies of the public image sets as fixtures."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import converters
import pytest


@pytest.fixture(scope='session')
def mini(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``mini(name, *options)``: a miniature that a test only reads."""

    @cache
    def make(name: str, *options: str) -> Path:
        return converters.make_mini(name, tmp_path_factory.mktemp('mini') / name, *options)

    return make


@pytest.fixture
def own_mini(mini: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """``own_mini(name, *options)``: a miniature that a test may break."""
    return lambda name, *options: Path(shutil.copytree(mini(name, *options), tmp_path / name))
