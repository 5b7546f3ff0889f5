"""The plots of a comparison show the right numbers and are written to files."""

import numpy as np
import pytest
from matplotlib.text import Text

from r2kd_mm.report import comparison, make_rows
from r2kd_mm.runs import Method, Result


@pytest.fixture
def rows():
    return make_rows(
        {
            Method('kd', 'kd.py'): {
                seed: Result([1, 2], [10.0, last], {}, 1.0) for seed, last in enumerate((20.0, 25.0, 30.0))
            },
            Method('r2kd', 'r2kd.py'): {
                seed: Result([1, 2], [10.0, last], {}, 1.0) for seed, last in enumerate((40.0, 50.0, 60.0))
            },
        },
        'kd',
    )


@pytest.fixture
def drawn(monkeypatch):
    """The figures, which are written all the same."""
    figures = []
    save = comparison.save_png
    monkeypatch.setattr(
        comparison, 'save_png', lambda draw, path: save(lambda: figures.append(draw()) or figures[-1], path)
    )
    return figures


def test_accuracy_shows_mean_band_and_teacher(rows, drawn, tmp_path):
    comparison.plot_accuracy(tmp_path / 'new' / 'accuracy.png', rows, 'digits', teachers=dict(teacher=94.2))
    axes = drawn[0].axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(lines) == ['teacher (94.2 %)', 'r2kd (50.0 %)', 'kd (25.0 %)']
    assert np.array_equal(lines['kd (25.0 %)'], [10, 25])
    assert len(axes.collections) == 2  # a band each
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('epoch', 'top-1 accuracy on the validation images (%)')
    assert (tmp_path / 'new' / 'accuracy.png').stat().st_size > 10_000


def test_many_methods_are_drawn_in_different_styles(drawn, tmp_path):
    results = {Method(f'm{index}', 'm.py'): {0: Result([1], [float(index)], {}, 1.0)} for index in range(15)}
    comparison.plot_accuracy(tmp_path / 'accuracy.png', make_rows(results), 'digits')
    styles = {(line.get_color(), line.get_linestyle()) for line in drawn[0].axes[0].lines}
    assert len(styles) == 15


def test_long_names_leave_the_legend_its_room(drawn, tmp_path):
    results = {Method(f'{index} {"b" * 45}', 'm.py'): {0: Result([1], [50.0], {}, 1.0)} for index in range(9)}
    comparison.plot_accuracy(tmp_path / 'accuracy.png', make_rows(results), 'digits')
    (figure,) = drawn
    (legend,) = figure.legends
    extent = legend.get_window_extent()
    assert extent.x1 <= figure.bbox.x1
    assert figure.axes[0].get_window_extent().height > figure.bbox.height / 3


@pytest.mark.parametrize(
    ('counts', 'said'), [((2, 2), 'mean of 2 seeds'), ((3, 2), 'mean of 2 to 3 seeds'), ((1, 1), 'One seed.')]
)
def test_accuracy_says_how_many_seeds_a_line_stands_for(counts, said, drawn, tmp_path):
    results = {
        Method(f'm{index}', 'm.py'): {seed: Result([1], [50.0], {}, 1.0) for seed in range(count)}
        for index, count in enumerate(counts)
    }
    comparison.plot_accuracy(tmp_path / 'accuracy.png', make_rows(results), 'digits')
    assert said in ' '.join(text.get_text() for text in drawn[0].findobj(Text))


def test_differences_show_each_method_but_the_baseline(rows, drawn, tmp_path):
    comparison.plot_differences(tmp_path / 'differences.png', rows, 'kd', 'digits')
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
    comparison.plot_differences(tmp_path / 'differences.png', make_rows(results, 'a'), 'a', title)
    (figure,) = drawn
    texts = [*figure.texts, figure.axes[0].title]
    assert title in [text.get_text() for text in texts]
    for text in texts:
        extent = text.get_window_extent()
        assert figure.bbox.x0 <= extent.x0, text
        assert extent.x1 <= figure.bbox.x1, text


def test_correlation_maps_show_each_network_and_its_difference_to_the_teacher(drawn, tmp_path):
    teacher, student = np.eye(3), np.eye(3) - 0.25
    comparison.plot_class_correlations(
        tmp_path / 'maps.png', dict(teacher=teacher, student=student), 'teacher', 'abc', 'x'
    )
    images = [axes.images[0].get_array() for axes in drawn[0].axes[:4] if axes.images]
    assert np.array_equal(images[0], teacher)
    assert np.array_equal(images[1], student)
    assert np.allclose(images[2], -0.25)
    assert 'mean |difference| 0.250' in [axes.get_title(loc='left') for axes in drawn[0].axes]
