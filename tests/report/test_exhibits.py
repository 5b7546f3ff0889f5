"""The page shows everything that applies to the runs, with its numbers."""

import copy

import numpy as np
import pytest

from r2kd_mm.report import RunGroup, make_exhibits, make_summary
from r2kd_mm.report.measurements import Measurements
from r2kd_mm.runs import accuracy

ALWAYS = ['accuracy', 'losses', 'class_correlation', 'class_accuracy', 'confusions', 'calibration', 'cost']


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
    with_teacher = ['entropy', 'agreement', 'corruptions', 'severity', 'views_1']
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


def test_the_summary_has_a_row_for_each_method_and_for_what_taught(groups, found):
    summary = make_summary(found)
    assert [row[0] for row in summary.rows] == ['alone', 'r2kd', 'teacher + pruned teacher']
    assert summary.rows[1][1:4] == ['2', '60.50 ± 0.71', '60.50 ± 0.71']
    assert summary.rows[0][2] == '60.00'
    teacher = found.methods[1].teacher
    assert summary.rows[2][2] == f'{accuracy(teacher.logits, found.labels):.2f}'
    assert summary.numbers[0][-3] == 421
    assert all(len(row) == len(summary.header) for row in [*summary.rows, *summary.numbers])


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
