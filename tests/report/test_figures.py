"""Figures show the given numbers, are the same each time, and have the colour of the page or are dark on white."""

from functools import partial

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from r2kd_mm.report import figures, style
from r2kd_mm.report.figures import Line, Panel, Points
from r2kd_mm.report.views import Picture

STYLES = style.styles(['a', 'b'], ['teacher'])
CURVES = Panel(
    'loss',
    'iteration',
    'loss',
    {'a': Line(np.array([1, 2]), np.array([[1.0, 2], [3, 6]])), 'b': Line(np.array([1, 2]), np.array([[5.0, 5]]))},
    {'teacher': 4.0},
)
NONE = np.full(2, np.nan)
POINTS = {
    'a': Points(np.array([1.0, 2]), np.array([0.5, 1.75]), np.array([1.5, 2.25])),
    'b': Points(np.array([3.0, 4]), NONE, NONE),
}
MAPS = {'teacher': np.eye(3), 'a': np.eye(3) - 0.25}
DRAWERS = dict(
    curves=partial(figures.draw_curves, [CURVES, CURVES], STYLES),
    histograms=partial(figures.draw_histograms, {'p': {'x': np.array([0.1, 0.2, 0.9])}}, 'entropy (nats)', 1.0),
    maps=partial(figures.draw_maps, MAPS, {'a': MAPS['teacher']}, ['cat', 'dog', 'owl']),
    dots=partial(figures.draw_dots, ['x', 'y'], POINTS, STYLES, 'accuracy (%)'),
    confusions=partial(figures.draw_confusions, {'a': np.array([[90.0, 10], [0, 100]])}, ['cat', 'dog']),
    reliability=partial(
        figures.draw_reliability, {'a': (np.array([0, 4]), np.array([np.nan, 0.9]), np.array([np.nan, 0.5]))}
    ),
    heat=partial(
        figures.draw_heat_table, np.array([[1.0, 50], [99, 70]]), ['a', 'b'], ['clean', 'fog'], 'accuracy (%)'
    ),
    pictures=partial(figures.draw_pictures, {'clean': [Picture(np.zeros((4, 4, 3), np.uint8), 'is cat')]}),
    scatter=partial(figures.draw_scatter, {'parameters': {'a': (1e3, 80.0), 'teacher': (1e6, 90.0)}}, STYLES, 'top-1'),
)
EVERY = pytest.mark.parametrize('draw', DRAWERS.values(), ids=DRAWERS)


@EVERY
def test_an_svg_takes_the_colour_of_the_page_and_shares_no_id_with_another(draw):
    svg = style.to_svg(draw, 'here')
    assert svg.startswith('<svg')
    assert 'currentColor' in svg
    assert style.SCREEN_INK not in svg
    assert 'width="' not in svg.split('>')[0].replace('stroke-width', '')
    ids = [part.split('"')[0] for part in svg.split(' id="')[1:]]
    assert ids
    assert all(name.startswith('here-') for name in ids)
    assert all(part.startswith('here-') for part in svg.split('href="#')[1:])
    assert all(part.startswith('here-') for part in svg.split('url(#')[1:])


@EVERY
def test_a_figure_is_the_same_each_time_whatever_the_user_has_set(draw):
    svg, png = style.to_svg(draw, 'x'), style.to_png(draw)
    with matplotlib.rc_context({'font.size': 30, 'xtick.major.size': 20}):
        assert style.to_svg(draw, 'x') == svg
        assert style.to_png(draw) == png
        assert matplotlib.rcParams['font.size'] == 30
    assert png.startswith(b'\x89PNG')
    assert b'Date' not in png + svg.encode()


def test_curves_are_the_mean_with_a_band_where_there_are_seeds():
    axes = figures.draw_curves([CURVES], STYLES).axes[0]
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert list(lines) == ['teacher', 'a', 'b']
    assert lines['a'].tolist() == [2, 4]
    (band,) = axes.collections
    half = np.std([2, 6], ddof=1)
    assert [band.get_datalim(axes.transData).ymax, axes.get_xlabel()] == [pytest.approx(4 + half), 'iteration']


def test_dots_have_a_bar_where_there_are_seeds():
    axes = figures.draw_dots(['x', 'y'], POINTS, STYLES, 'accuracy (%)').axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ['x', 'y']
    with_bar, without = axes.containers
    assert with_bar.has_xerr
    assert not without.has_xerr
    assert axes.yaxis_inverted()


def test_maps_say_how_far_they_are_from_what_they_are_compared_with():
    figure = figures.draw_maps(MAPS, {'a': MAPS['teacher']}, ['1', '2', '3'])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:4] == ['teacher', 'a', '', 'mean |difference| 0.250']
    many = [str(index) for index in range(100)]
    figure = figures.draw_maps({'a': np.eye(100)}, {}, many)
    assert not len(figure.axes[0].get_xticks())


def test_heat_cells_show_their_number_and_can_be_read():
    texts = {text.get_text(): text.get_color() for text in DRAWERS['heat']().axes[0].texts}
    assert texts == {'1': 'white', '50': 'white', '99': 'black', '70': 'black'}


def test_a_confusion_matrix_has_a_row_for_each_class_and_shows_what_occurs():
    axes = DRAWERS['confusions']().axes[0]
    texts = {text.get_text(): (text.get_position(), text.get_color()) for text in axes.texts}
    assert texts == {'90': ((0, 0), 'white'), '10': ((1, 0), 'black'), '100': ((1, 1), 'white')}
    assert [label.get_text() for label in axes.get_yticklabels()] == ['cat', 'dog']
    assert axes.yaxis_inverted()
    many = figures.draw_confusions({'a': np.eye(40), 'b': np.eye(40)}, [str(index) for index in range(40)])
    assert not many.axes[0].texts
    assert not len(many.axes[0].get_xticks())


def test_empty_bins_are_left_out_of_a_reliability_diagram():
    axes = DRAWERS['reliability']().axes[0]
    curve = next(line for line in axes.lines if line.get_label() == 'accuracy')
    assert (curve.get_xdata().tolist(), curve.get_ydata().tolist()) == ([90], [50])


def test_many_methods_are_drawn_in_different_styles():
    looks = style.styles([str(index) for index in range(24)], ['t', 'u'])
    assert len({(look.color, look.line) for look in looks.values()}) == 26


def test_large_numbers_are_short():
    assert [figures._short_number(value, 0) for value in (0.2, 421, 2e4, 5e6, 3e9)] == ['0.2', '421', '20k', '5M', '3G']


def test_a_figure_is_no_window():
    assert all(isinstance(draw(), Figure) for draw in DRAWERS.values())


def test_bars_and_bands_of_percentages_end_at_0_and_100():
    points = {'a': Points(*np.array([[99.0, 1, 50, 60], [96, -1, 46, np.nan], [102, 3, 54, np.nan]]))}
    names = ['x', 'y', 'z', 'without']
    (bars,) = figures.draw_dots(names, points, STYLES, 'accuracy (%)').axes[0].collections
    assert [tuple(bar[:, 0]) for bar in bars.get_segments()] == [
        (96.0, 100.0), (0.0, 3.0), (46.0, 54.0), (60.0, 60.0)
    ]  # fmt: skip

    lines = {'a': Line(np.array([1, 2]), np.array([[95.0, 0], [100, 4]]))}
    panel = Panel('', 'epoch', 'accuracy (%)', lines, bounds=figures.PERCENT)
    (band,) = figures.draw_curves([panel], STYLES).axes[0].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (0, 100)  # not -0.8 and 101.0
