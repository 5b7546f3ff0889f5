"""The table that `r2kd-mm distill` prints names a student that is no better than guessing."""

from r2kd_mm.photos.folder import Photos
from r2kd_mm.photos.plan import ALONE, DISTILLED, TEACHER
from r2kd_mm.photos.summary import guessing


def test_a_student_that_guesses_is_named_below_the_table(tmp_path):
    photos = Photos(tmp_path, 'train', 'val', ('a', 'b', 'c', 'd'), dict(a=(5, 100)))
    found = guessing({TEACHER: 10.0, ALONE: 37.9, DISTILLED: 38.1}, photos)
    assert found.strip().startswith(
        'student alone: no better than guessing among 4 classes (up to 37.99 % on 100 photos); give a lower --lr'
    )
    assert guessing({DISTILLED: 38.1}, photos) == ''
