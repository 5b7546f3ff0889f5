"""The HTML page shows every figure that applies to the runs, each with its numbers."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from r2kd_mm.datasets import Digits
from r2kd_mm.report import RunGroup, make_exhibits, make_summary
from r2kd_mm.report.exhibits.exhibit import points
from r2kd_mm.report.measurements import Measurements
from r2kd_mm.report.trained_runs import Series
from r2kd_mm.runs import accuracy
from r2kd_mm.runs.statistics import wilson_interval

ALWAYS = [
    'accuracy', 'losses', 'class_correlation', 'class_accuracy', 'confusion_matrix', 'confusions', 'errors_1',
    'calibration', 'cost',
]  # fmt: skip


@pytest.fixture(scope='module')
def exhibits(groups, found):
    return {exhibit.name: exhibit for exhibit in make_exhibits(groups, found)}


def column(exhibit, name, **where):
    """The values of a column in the rows where other columns have the values of ``where``."""
    place = exhibit.header.index(name)
    return [
        row[place]
        for row in exhibit.rows
        if all(row[exhibit.header.index(key)] == value for key, value in where.items())
    ]


def test_runs_with_a_teacher_show_everything_and_a_student_alone_what_applies(exhibits, groups, found):
    with_teacher = ['entropy', 'agreement', 'corruptions', 'severity', 'views_1', 'errors_2']
    assert sorted(exhibits) == sorted(ALWAYS + with_teacher)
    alone = Measurements(found.methods[:1], found.labels, found.classes, found.data, [])
    names = [exhibit.name for exhibit in make_exhibits(groups[:1], alone)]
    assert sorted(names) == sorted([*ALWAYS, 'corruptions', 'severity'])


def test_every_row_has_a_value_for_each_column(exhibits):
    for exhibit in exhibits.values():
        assert exhibit.rows, exhibit.name
        assert {len(row) for row in exhibit.rows} == {len(exhibit.header)}, exhibit.name
        assert exhibit.caption.endswith('.'), exhibit.name


def test_accuracy_is_that_of_the_logs_by_seed(exhibits):
    assert column(exhibits['accuracy'], 'accuracy_percent', method='r2kd', seed=1) == [41, 61]
    assert column(exhibits['losses'], 'value', scalar='loss', method='alone') == [3, 0.03, 0.015]


def test_corruptions_are_given_by_seed_next_to_the_clean_images(exhibits, found):
    table = exhibits['corruptions']
    clean = column(table, 'accuracy_percent', network='r2kd', corruption='clean')
    assert clean == [accuracy(logits, found.labels) for logits in found.methods[1].students]
    assert column(table, 'seed', network='r2kd', corruption='contrast', severity=5) == [0, 1]
    mean = np.mean([found.methods[0].corrupted[name, 5] for name in ('gaussian_noise', 'contrast')])
    assert column(exhibits['severity'], 'accuracy_percent', network='alone', severity=5) == [pytest.approx(mean)]


def test_the_classes_of_a_student_sum_up_to_its_accuracy(exhibits, found):
    shares = np.bincount(found.labels.numpy(), minlength=10) / len(found.labels)
    classes = column(exhibits['class_accuracy'], 'accuracy_percent', method='alone')
    assert shares @ classes == pytest.approx(accuracy(found.methods[0].students[0], found.labels))


def test_a_student_alone_is_compared_with_the_teacher_of_the_others(exhibits):
    assert column(exhibits['agreement'], 'method') == ['alone', 'r2kd', 'r2kd']
    assert all(value != '' for value in column(exhibits['class_correlation'], 'difference', network='alone'))
    assert set(column(exhibits['class_correlation'], 'difference', network='teacher + pruned teacher')) == {''}


def test_the_summary_has_a_row_for_each_method_and_for_what_taught_the_most_accurate_first(groups, found):
    summary = make_summary(found)
    assert [row[0] for row in summary.rows] == ['r2kd', 'alone', 'teacher + pruned teacher']
    assert summary.rows[0][1:5] == ['2', '60.50 ± 0.71', '58.0 to 63.0, 1497 images', '60.50 ± 0.71']
    assert summary.rows[1][2] == '60.00'
    teacher = found.methods[1].teacher
    right = accuracy(teacher.logits, found.labels)
    low, high = (100 * bound for bound in wilson_interval(round(right), 100))
    assert summary.rows[2][2:4] == [f'{right:.2f}', f'{low:.1f} to {high:.1f}, 100 images']
    assert summary.numbers[1][-3] == 421
    assert all(len(row) == len(summary.header) for row in [*summary.rows, *summary.numbers])


def test_the_interval_says_whether_it_is_of_images_or_of_seeds(groups, found):
    run = replace(groups[1].runs[0], val_data=dict(images=200))
    runs = [replace(run, scalars={'accuracy/top1': Series(np.array([1]), np.array([top1]))}) for top1 in (60, 62, 64)]
    for count, expected in (
        (1, '53.1 to 66.5, 200 images'),
        (2, '54.1 to 67.5, 200 images'),
        (3, '57.0 to 67.0, 3 seeds'),
    ):
        method = replace(found.methods[1], group=RunGroup('r2kd', runs[:count]))
        summary = make_summary(replace(found, methods=[method]))
        assert summary.rows[0][3] == expected


def test_a_single_seed_has_bars_by_the_number_of_images_and_several_have_their_deviation(exhibits, found):
    of_one = points(np.array([[80.0, np.nan]]), np.array([96, 0]))
    assert (of_one.low[0], of_one.high[0]) == pytest.approx(tuple(100 * end for end in wilson_interval(77, 96)))
    assert np.isnan([of_one.low[1], of_one.high[1]]).all()
    of_two = points(np.array([[80.0], [84.0]]), np.array([96]))
    assert (of_two.low[0], of_two.high[0]) == pytest.approx((82 - 2 * np.sqrt(2), 82 + 2 * np.sqrt(2)))
    assert 'Of a method with one seed: bar: 95 % interval by the number of images' in exhibits['class_accuracy'].caption


def test_the_diagonal_of_a_confusion_matrix_is_the_accuracy_of_each_class(exhibits, found):
    table = exhibits['confusion_matrix']
    diagonal = [row[-1] for row in table.rows if row[0] == 'alone' and row[1] == row[2]]
    of_classes = column(exhibits['class_accuracy'], 'accuracy_percent', method='alone')
    assert diagonal == pytest.approx([value for value in of_classes if value > 0])
    assert sum(column(table, 'share_percent', network='teacher + pruned teacher')) == pytest.approx(1000)


def test_the_gallery_has_the_surest_errors_first(exhibits, found):
    table = exhibits['errors_1']
    logits = found.methods[0].students[0].double().softmax(dim=1)
    confidence, predicted = logits.max(dim=1)
    expected = sorted(confidence[predicted != found.labels].tolist(), reverse=True)[:12]
    assert [row[-1] for row in table.rows] == pytest.approx([100 * value for value in expected])
    assert all(row[2] != row[3] for row in table.rows)
    shown = found.methods[0].errors[0].picture
    place = int(confidence.where(predicted != found.labels, torch.tensor(-1.0)).argmax())
    image = Digits(split='test', indices=100).get_data_info(place)['img']
    assert np.array_equal(shown.pixels, np.repeat(image.reshape(8, 8, 1), 3, axis=2))
    assert [len(axes.images) for axes in table.draw().axes] == [1] * 12


def test_methods_that_differ_in_their_label_noise_alone_are_one_line(groups, found):
    noisy = []
    for noise in (0.0, 0.4):
        runs = copy.deepcopy(groups[1].runs)
        for run in runs:
            run.config.train_dataloader.dataset.label_noise = noise
            run.scalars['accuracy/top1'].values[-1] -= 100 * noise
        noisy.append(RunGroup(f'r2kd, noise {noise}', runs))
    exhibits = {exhibit.name: exhibit for exhibit in make_exhibits([groups[0], *noisy], found)}
    rows = exhibits['label_noise'].rows
    assert rows == [
        ('r2kd, noise 0.0', 0, 0.0, 60),
        ('r2kd, noise 0.0', 0, 0.4, 20),
        ('r2kd, noise 0.0', 1, 0.0, 61),
        ('r2kd, noise 0.0', 1, 0.4, 21),
    ]
    assert exhibits['label_noise'].draw().axes[0].lines[0].get_xdata().tolist() == [0, 40]

    for run in noisy[1].runs:
        run.config.train_cfg.max_epochs += 1
    assert 'label_noise' not in {exhibit.name for exhibit in make_exhibits(noisy, found)}
