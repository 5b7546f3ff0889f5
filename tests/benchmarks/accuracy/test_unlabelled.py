"""The benchmark unlabelled.py: which cases have unlabelled images and a teacher, and how many steps they train."""

import unlabelled


def test_only_the_last_case_has_images_without_labels_and_only_the_first_two_have_no_teacher(tmp_path):
    (tmp_path / 'digits').mkdir()  # nothing is written
    digits = unlabelled.Digits(tmp_path)
    runs = {case: digits.student_run('resnet8', '100 labels', case, seed=3) for case in unlabelled.CASES}
    assert [case for case, run in runs.items() if 'teacher' not in run['model']] == list(runs)[:2]
    with_more = [case for case, run in runs.items() if run['train_dataloader']['dataset']['type'] == 'WithUnlabelled']
    assert with_more == ['distilled, unlabelled too']
    assert {run['randomness']['seed'] for run in runs.values()} == {3}
    assert runs['distilled']['model']['teacher_ckpt'] == str(tmp_path / 'teachers' / '100_labels.pth')


def test_the_longer_runs_have_as_many_steps():
    with_labels, half = -(-100 // 32), -(-100 // 16)
    assert unlabelled.EPOCHS * half == unlabelled.LONGER * with_labels
