"""The benchmark of the command `r2kd-mm distill` times the stages that the command goes through."""

import sys
from argparse import Namespace

import distill
import pytest
import toolbox
from PIL import Image


def test_a_stage_begins_with_its_line():
    lines = ['| what | is |', 'Teacher', '[1/1] teacher, seed 0', 'Student', '| network | accuracy, % |', '| teacher |']
    seconds, printed = distill.timed([sys.executable, '-c', f'print({chr(10).join(lines)!r})'], threads=1)
    assert list(seconds) == list(distill.MARKS)
    assert printed.splitlines() == lines


def test_a_call_that_fails_ends_the_benchmark():
    with pytest.raises(SystemExit, match='failed:\nsaid'):
        distill.timed([sys.executable, '-c', 'print("said"); raise SystemExit(1)'], threads=1)


def test_without_students_the_photos_are_made(tmp_path, monkeypatch):
    for name in distill.CROPPED:
        Image.new('RGB', (80, 60), 'red').save(tmp_path / name)
    monkeypatch.setattr(sys, 'argv', ['distill.py', str(tmp_path / 'out'), '--skimage', str(tmp_path), '--students'])
    distill.main()
    found = sorted((tmp_path / 'out' / 'photos').rglob('*.png'))
    assert len(found) == 480
    assert Image.open(found[0]).size == (96, 96)
    assert len({path.parent.name for path in found}) == 12


def test_a_call_that_would_continue_an_earlier_one_is_not_timed(tmp_path):
    (tmp_path / 'timm_x').mkdir()
    with pytest.raises(SystemExit, match="timm_x' exists already"):
        distill.measure('timm/x', Namespace(out=tmp_path, epochs=1, image_size=32, threads=1))


@pytest.mark.slow
def test_the_command_goes_through_all_stages(tmp_path):
    pytest.importorskip('timm', reason='the networks of this test are those of timm')
    made = toolbox.run_forked(
        'dataset_converters/make_mini.py',
        'imagenet',
        tmp_path / 'photos',
        '--classes',
        '3',
        '--train',
        '16',
        '--val',
        '6',
    )
    assert made.returncode == 0, made.stderr
    found = distill.measure('timm/test_efficientnet', Namespace(out=tmp_path, epochs=2, image_size=32, threads=1))
    assert list(found['seconds']) == list(distill.MARKS)
    assert found['accuracy_percent'].keys() == {
        'teacher', 'teacher on the view of the student', 'student alone', 'student distilled'
    }  # fmt: skip
    assert '| timm/test_efficientnet |' in distill.to_markdown([found])
