"""The numbers, table and plot of a pruned teacher agree with scipy and with values computed by hand."""

import math

import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from r2kd_mm.report import PrunedTeacher, judge, plot_pruned_teachers, pruned_to_csv, pruned_to_markdown


def test_the_measures_are_those_of_scipy():
    generator = torch.Generator().manual_seed(0)
    full, pruned = (3 * torch.randn(50, 4, generator=generator) for _ in range(2))
    labels = torch.randint(4, (50,), generator=generator)
    found = judge('random', 0.2, 0.19, pruned, full, labels)
    p, q = (softmax(logits.double().numpy(), axis=1) for logits in (full, pruned))
    assert found.entropy == pytest.approx(entropy(q, axis=1).mean())
    assert found.divergence == pytest.approx(entropy(p, q, axis=1).mean())
    assert found.agreement == pytest.approx(100 * (p.argmax(axis=1) == q.argmax(axis=1)).mean())
    assert found.accuracy == pytest.approx(100 * (q.argmax(axis=1) == labels.numpy()).mean())
    mixed = (0.7 * full + 0.3 * pruned).argmax(dim=1)
    assert found.ensemble_accuracy == pytest.approx(100 * (mixed == labels).double().mean().item())
    assert (found.pruner, found.amount, found.sparsity) == ('random', 0.2, 0.19)


def test_the_weight_of_the_full_teacher_in_the_ensemble_counts():
    full, pruned = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    found = [judge('', 0, 0, pruned, full, torch.tensor([0]), weight).ensemble_accuracy for weight in (0.7, 0.5)]
    assert found == [100, 0]


def test_a_network_agrees_with_itself():
    logits = torch.tensor([[0.0, math.log(3)]])
    found = judge('none', 0, 0, logits, logits, None)
    assert (found.agreement, found.accuracy, found.ensemble_accuracy) == (100, None, None)
    assert found.divergence == pytest.approx(0, abs=1e-12)
    assert found.entropy == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)), rel=1e-6)


def test_the_table_has_what_was_measured_and_marks_the_default():
    full = PrunedTeacher('none', 0.0, 0.0, None, None, 0.1, 100.0, 0.0)
    pruned = PrunedTeacher('magnitude', 0.1, 0.0999, None, None, 0.12345, 98.765, 0.004567)
    other = PrunedTeacher('random', 0.1, 0.1, None, None, 1.0, 50.0, 1.0)
    lines = pruned_to_markdown(full, [pruned, other], ('magnitude', 0.1)).splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells[0][:3] == ['pruner', 'amount', 'weights gone, %']
    assert not any('accuracy' in name for name in cells[0])
    assert cells[3] == ['magnitude (R2KD)', '0.1', '9.99', '0.123', '98.77', '0.005']
    assert cells[4][0] == 'random'
    assert pruned_to_csv(full, [pruned]).splitlines()[-1] == 'magnitude,0.1,0.0999,,,0.12345,98.765,0.004567'


@pytest.mark.parametrize(('accuracy', 'panels'), [(90.0, 5), (None, 3)])
def test_the_plot_has_a_panel_for_each_measure_and_a_line_for_each_pruner(accuracy, panels, monkeypatch, tmp_path):
    full = PrunedTeacher('none', 0.0, 0.0, accuracy, accuracy, 0.1, 100.0, 0.0)
    pruned = [
        PrunedTeacher(name, amount, amount, accuracy, accuracy, amount, 90.0, amount)
        for name in ('magnitude', 'random')
        for amount in (0.1, 0.5)
    ]
    figures = []
    monkeypatch.setattr('r2kd_mm.report.pruned.save_png', lambda draw, path: figures.append(draw()))
    plot_pruned_teachers(tmp_path / 'pruned.png', full, pruned, 'digits', 0.1)
    (figure,) = figures
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == panels
    entropy = next(axes for axes in shown if axes.get_ylabel() == 'mean entropy, nats')
    lines = {line.get_label(): list(line.get_ydata()) for line in entropy.lines}
    assert lines['magnitude'] == lines['random'] == [0.1, 0.5]
    assert lines['full teacher'] == [0.1, 0.1]
    assert 'amount in R2KD (0.1)' in lines
    assert figure.legends[0].get_title().get_text() == 'digits'
