"""The teacher files of a run are found even if the run was moved, and only if their content is unchanged."""

import pytest
from mmengine.config import Config

from r2kd_mm.checkpoint import digest_of_file
from r2kd_mm.report.teacher_files import find_file, model_with_teachers
from r2kd_mm.report.trained_runs import TrainedRun


def run(folder, work_dir, model=None, **fields):
    folder.mkdir(parents=True, exist_ok=True)
    return TrainedRun(
        folder, 0, Config(dict(work_dir=str(work_dir), model=model or {})), folder / 'a.pth', {}, **fields
    )


def write(path, text='weights'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_teacher_next_to_a_moved_run_is_found_before_one_of_the_same_name_here(tmp_path, monkeypatch):
    teacher = write(tmp_path / 'new/work_dirs/teacher/last.pth', 'that of the run')
    write(tmp_path / 'here/work_dirs/teacher/last.pth', 'another one')
    monkeypatch.chdir(tmp_path / 'here')
    moved = run(tmp_path / 'new/work_dirs/r2kd/seed_0', 'work_dirs/r2kd/seed_0')
    assert find_file(moved, 'work_dirs/teacher/last.pth') == str(teacher)


def test_a_teacher_that_was_moved_with_the_run_is_found_by_its_distance(tmp_path):
    teacher = write(tmp_path / 'new/teacher/last.pth')
    moved = run(tmp_path / 'new/runs/r2kd', '/old/runs/r2kd')
    assert find_file(moved, '/old/teacher/last.pth') == str(teacher)


def test_a_run_that_was_not_moved_finds_what_is_where_it_was(tmp_path, monkeypatch):
    write(tmp_path / 'here/teacher.pth')
    monkeypatch.chdir(tmp_path / 'here')
    own = run(tmp_path / 'scratch/r2kd', tmp_path / 'scratch/r2kd')
    assert find_file(own, 'teacher.pth') == 'teacher.pth'
    assert find_file(own, 'https://host/teacher.pth') == 'https://host/teacher.pth'


def test_a_file_of_another_content_is_not_the_teacher(tmp_path, monkeypatch):
    write(tmp_path / 'new/teacher.pth', 'trained again')
    first = write(tmp_path / 'here/teacher.pth', 'of the run')
    monkeypatch.chdir(tmp_path / 'here')
    moved = run(tmp_path / 'new/r2kd', 'work_dirs/r2kd')
    assert find_file(moved, 'teacher.pth', digest_of_file(str(first))) == 'teacher.pth'
    with pytest.raises(FileNotFoundError, match=r"new/teacher.pth' is not the file that the run read as 'teacher.pth'"):
        find_file(moved, 'teacher.pth', digest_of_file('nothing'))
    with pytest.raises(FileNotFoundError, match="'lost.pth' is neither where the run read it, nor as far from"):
        find_file(moved, 'lost.pth')


def test_each_teacher_of_an_ensemble_is_looked_for(tmp_path):
    paths = [write(tmp_path / 'new' / f'{name}.pth', name) for name in 'ab']
    members = {name: dict(teacher='vgg', teacher_ckpt=f'/old/{name}.pth') for name in 'ab'}
    members['pruned'] = dict(copy_of='a')
    model = dict(teacher=dict(type='TeacherEnsemble', members=members), teacher_ckpt=None)
    digests = {name: digest_of_file(str(path)) for name, path in zip('ab', paths)}
    moved = run(tmp_path / 'new/r2kd', '/old/r2kd', model, teachers=digests)
    found = model_with_teachers(moved)['teacher']['members']
    assert [found[name]['teacher_ckpt'] for name in 'ab'] == list(map(str, paths))
    assert moved.config.model.teacher.members.a.teacher_ckpt == '/old/a.pth'  # as it was
