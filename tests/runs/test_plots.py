"""The pictures of a comparison: what is drawn, and that it is written."""

import numpy as np
import pytest
from matplotlib.text import Text

from r2kd_mm.runs import Method, PrunedTeacher, Result, make_rows, plots


@pytest.fixture
def rows():
    return make_rows(
        {
            Method('kd', 'kd.py'): {0: Result([1, 2], [10.0, 20.0], {}, 1.0), 1: Result([1, 2], [10.0, 30.0], {}, 1.0)},
            Method('r2kd', 'r2kd.py'): {
                0: Result([1, 2], [20.0, 40.0], {}, 1.0),
                1: Result([1, 2], [10.0, 60.0], {}, 1.0),
            },
        },
        'kd',
    )


@pytest.fixture
def drawn(monkeypatch):
    """The figures, which are written all the same."""
    figures = []
    save = plots._save
    monkeypatch.setattr(plots, '_save', lambda figure, path: (figures.append(figure), save(figure, path)))
    return figures


def test_accuracy_shows_mean_band_and_teacher(rows, drawn, tmp_path):
    plots.plot_accuracy(tmp_path / 'new' / 'accuracy.png', rows, 'digits', teachers=dict(teacher=94.2))
    axes = drawn[0].axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(lines) == ['teacher (94.2 %)', 'r2kd (50.0 %)', 'kd (25.0 %)']
    assert np.array_equal(lines['kd (25.0 %)'], [10, 25])
    assert len(axes.collections) == 2  # a band each
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('epoch', 'top-1 accuracy on the validation images (%)')
    assert (tmp_path / 'new' / 'accuracy.png').stat().st_size > 10_000


def test_many_methods_are_drawn_in_different_styles(drawn, tmp_path):
    results = {Method(f'm{index}', 'm.py'): {0: Result([1], [float(index)], {}, 1.0)} for index in range(15)}
    plots.plot_accuracy(tmp_path / 'accuracy.png', make_rows(results), 'digits')
    styles = {(line.get_color(), line.get_linestyle()) for line in drawn[0].axes[0].lines}
    assert len(styles) == 15


@pytest.mark.parametrize(
    ('counts', 'said'), [((2, 2), 'mean of 2 seeds'), ((3, 2), 'mean of 2 to 3 seeds'), ((1, 1), 'One seed.')]
)
def test_accuracy_says_how_many_seeds_a_line_stands_for(counts, said, drawn, tmp_path):
    results = {
        Method(f'm{index}', 'm.py'): {seed: Result([1], [50.0], {}, 1.0) for seed in range(count)}
        for index, count in enumerate(counts)
    }
    plots.plot_accuracy(tmp_path / 'accuracy.png', make_rows(results), 'digits')
    assert said in ' '.join(text.get_text() for text in drawn[0].findobj(Text))


def test_differences_show_each_method_but_the_baseline(rows, drawn, tmp_path):
    plots.plot_differences(tmp_path / 'differences.png', rows, 'kd', 'digits')
    axes = drawn[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['r2kd']
    _, interval, point = axes.lines
    assert interval.get_xdata() == pytest.approx([rows[1].difference.low, rows[1].difference.high])
    assert point.get_xdata() == pytest.approx([25])


def test_long_names_leave_the_title_its_room(drawn, tmp_path):
    results = {
        Method(name, 'm.py'): {seed: Result([1], [50.0 + seed], {}, 1.0) for seed in (0, 1)} for name in ('a', 'b' * 45)
    }
    title = 'Glyph-100, same-family pair, short scale: difference to a'
    plots.plot_differences(tmp_path / 'differences.png', make_rows(results, 'a'), 'a', title)
    (figure,) = drawn
    texts = [*figure.texts, figure.axes[0].title]
    assert title in [text.get_text() for text in texts]
    for text in texts:
        extent = text.get_window_extent()
        assert figure.bbox.x0 <= extent.x0, text
        assert extent.x1 <= figure.bbox.x1, text


def test_correlation_maps_show_each_network_and_its_difference_to_the_teacher(drawn, tmp_path):
    teacher, student = np.eye(3), np.eye(3) - 0.25
    plots.plot_class_correlations(tmp_path / 'maps.png', dict(teacher=teacher, student=student), 'teacher', 'abc', 'x')
    images = [axes.images[0].get_array() for axes in drawn[0].axes[:4] if axes.images]
    assert np.array_equal(images[0], teacher)
    assert np.array_equal(images[1], student)
    assert np.allclose(images[2], -0.25)
    assert 'mean |difference| 0.250' in [axes.get_title() for axes in drawn[0].axes]


@pytest.mark.parametrize(('accuracy', 'panels'), [(90.0, 5), (None, 3)])
def test_pruned_teachers_have_a_panel_for_each_measure_and_a_line_for_each_pruner(accuracy, panels, drawn, tmp_path):
    full = PrunedTeacher('none', 0.0, 0.0, accuracy, accuracy, 0.1, 100.0, 0.0)
    pruned = [
        PrunedTeacher(name, amount, amount, accuracy, accuracy, amount, 90.0, amount)
        for name in ('magnitude', 'random')
        for amount in (0.1, 0.5)
    ]
    plots.plot_pruned_teachers(tmp_path / 'pruned.png', full, pruned, 'digits', 0.1)
    shown = [axes for axes in drawn[0].axes if axes.axison]
    assert len(shown) == panels
    entropy = next(axes for axes in shown if axes.get_ylabel() == 'mean entropy, nats')
    lines = {line.get_label(): list(line.get_ydata()) for line in entropy.lines}
    assert lines['magnitude'] == lines['random'] == [0.1, 0.5]
    assert lines['full teacher'] == [0.1, 0.1]
    assert 'amount in R2KD (0.1)' in lines
    assert drawn[0].axes[panels].get_legend() is not None
