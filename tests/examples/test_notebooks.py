"""The notebooks run from their first cell to their last, and are kept without outputs."""

import json

import matplotlib.pyplot as plt
import pytest
import torch
from toolbox import ROOT

NOTEBOOKS = sorted((ROOT / 'examples/notebooks').glob('*.ipynb'))


def cells(name: str) -> list[dict]:
    return json.loads((ROOT / f'examples/notebooks/{name}.ipynb').read_text())['cells']


def run(name: str, **changes: str) -> dict:
    """Run the code cells in one namespace; ``changes`` maps the right side of an assignment that makes it short."""
    namespace: dict = {}
    for cell in cells(name):
        code = ''.join(cell['source'])
        for variable, value in changes.items():
            code = '\n'.join(
                f'{variable} = {value}' if line.startswith(f'{variable} = ') else line for line in code.split('\n')
            )
        if cell['cell_type'] == 'code':
            exec(compile(code, f'{name}.ipynb', 'exec'), namespace)
    return namespace


@pytest.fixture(autouse=True)
def _nothing_is_shown(monkeypatch):
    monkeypatch.setattr(plt, 'show', lambda *_: None)
    plt.switch_backend('agg')
    yield
    plt.close('all')


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_kept_out_of_the_repository(path):
    assert not [cell for cell in cells(path.stem) if cell.get('outputs') or cell.get('execution_count')]


@pytest.mark.slow
def test_the_student_of_the_distillation_learns():
    found = run('distillation', EPOCHS='10')
    assert found['EPOCHS'] == 10
    assert set(found['history'][0]) >= {'student.loss', 'clean.loss_value', 'clean.loss_rank', 'augmented.loss_rank'}
    assert found['results']['student, R2KD'] > 30  # chance is 10


def test_the_two_terms_see_what_the_notebook_says(capsys):
    found = run('two_terms')
    at_teacher = torch.as_tensor(found['values'])[(found['positions'] - 4).abs().argmin()]
    assert at_teacher.item() == min(found['values'])
    between = (found['positions'] > 1.2) & (found['positions'] < 5.8)  # lynx is second, as for the teacher
    assert torch.tensor(found['ranks'])[between].max() < 0.01
    assert torch.tensor(found['ranks'])[~between].max() > 0.05
    shown = capsys.readouterr().out.splitlines()
    assert float(shown[0].split()[-1]) < 0.001 < 0.05 < float(shown[1].split()[-1])
    norms = {line.split(':')[0].strip(): float(line.split()[-1]) for line in shown[2:]}
    assert norms['sigmoid'] > 0 == norms['hard']
