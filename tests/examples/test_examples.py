"""The examples that use the library run without an error, and the student learns."""

import runpy

import pytest
from toolbox import ROOT

CHANCE = 10  # percent, of ten digits


@pytest.fixture
def _beside_each_other(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / 'examples')


@pytest.mark.usefixtures('_beside_each_other')
def test_a_bare_loop(capsys):
    runpy.run_path(str(ROOT / 'examples' / 'bare_loop.py'))['main'](epochs=10)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    accuracy = {' '.join(words[:-2]): float(words[-2]) for words in rows if words[-1] == '%'}
    assert list(accuracy) == ['teacher', 'student alone', 'student, R2KD']
    assert accuracy['student, R2KD'] > 3 * CHANCE, accuracy


@pytest.mark.slow
@pytest.mark.usefixtures('_beside_each_other')
def test_under_accelerate(monkeypatch):
    pytest.importorskip('accelerate')
    for name in ('RANK', 'LOCAL_RANK', 'WORLD_SIZE'):  # what a tool has set in this process for mmengine
        monkeypatch.delenv(name, raising=False)
    assert runpy.run_path(str(ROOT / 'examples' / 'with_accelerate.py'))['main'](epochs=10) > 3 * CHANCE
