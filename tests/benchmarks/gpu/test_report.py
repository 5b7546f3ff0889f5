"""The report of `make gpu` is written even if a part fails or hangs, and the other parts still run."""

import getpass
import socket
import sys
import time

import pytest
import report
import toolbox

PART = report.Part('machine', 'Machine', 60)


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """Let the parts be a script."""

    def write(code):
        path = tmp_path / 'parts.py'
        path.write_text(code)
        monkeypatch.setattr(report, 'PARTS_FILE', path)

    return write


def test_a_part_gives_its_text(parts):
    parts("import sys; print('noise'); print('<report>\\n' + ' '.join(sys.argv[1:]) + '\\n</report>')")
    outcome = report.run_part(PART, 'cuda', 60)
    assert (outcome.status, outcome.text) == ('ok', 'machine cuda\n')


@pytest.mark.parametrize(
    ('code', 'text'),
    [
        ("raise ValueError('a driver is missing')", 'ValueError: a driver is missing'),
        ('import os; os.abort()', ''),
        ("print('<report>\\nhalf\\n</report>'); raise SystemExit('not as it should be: KL')", 'half'),
        ('pass', ''),
    ],
    ids=['raises', 'aborts', 'wrong', 'silent'],
)
def test_a_part_that_fails_says_why(parts, code, text):
    parts(code)
    outcome = report.run_part(PART, 'cuda', 60)
    assert outcome.status == 'failed'
    assert text in outcome.text


def test_a_part_that_hangs_is_ended(parts):
    parts("import time; print('began', flush=True); time.sleep(600)")
    start = time.monotonic()
    outcome = report.run_part(PART, 'cuda', 2)
    assert outcome.status == 'failed'
    assert outcome.text.startswith('still ran after 2 s')
    assert 'began' in outcome.text
    assert time.monotonic() - start < 60


def test_the_report_has_every_part_and_no_place():
    text = f'{toolbox.ROOT}/r2kd_mm/zoo.py and /home/somebody/secret/x.pth of {socket.gethostname()}'
    page = report.to_markdown('cuda', dict(machine=report.Outcome('ok', text, 3.2)))
    assert 'r2kd_mm/zoo.py and .../x.pth of ...' in page
    assert str(toolbox.ROOT) not in page
    assert 'somebody' not in page
    for private in (socket.gethostname(), getpass.getuser()):
        assert private not in page.split()
    for part in report.PARTS:
        assert f'## {part.title}\n' in page
    assert page.count('| not run |') == len(report.PARTS) - 1


def test_without_a_gpu_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(report, 'count_cards', lambda: 0)
    monkeypatch.setattr(sys, 'argv', ['report.py', '--out', str(tmp_path / 'report.md')])
    with pytest.raises(SystemExit, match='PyTorch finds no GPU here .* make gpu DEVICE=pretend needs none'):
        report.main()


def test_hardware_parts_are_not_run_on_the_pretended_device(monkeypatch, tmp_path, parts):
    parts("print('<report>\\nall is well\\n</report>')")
    out = tmp_path / 'report.md'
    monkeypatch.setattr(sys, 'argv', ['report.py', '--device', 'pretend', '--out', str(out)])
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert ended.value.code == 0
    page = out.read_text()
    assert page.count('**ok**') == 6
    assert page.count('needs 1 GPU(s), and there are 0') == 5
    assert page.count('needs 2 GPU(s), and there are 0') == 1


def test_parts_after_the_end_of_the_time_are_not_run(monkeypatch, tmp_path, parts):
    parts("print('<report>\\nall is well\\n</report>')")
    out = tmp_path / 'report.md'
    monkeypatch.setattr(sys, 'argv', ['report.py', '--device', 'pretend', '--minutes', '0.1', '--out', str(out)])
    with pytest.raises(SystemExit):
        report.main()
    assert 'the 0.1 minutes were over' in out.read_text()


@pytest.mark.slow
def test_the_parts_that_need_no_gpu_are_as_they_should_be(monkeypatch, tmp_path):
    out = tmp_path / 'report.md'
    monkeypatch.setattr(
        sys, 'argv', ['report.py', '--device', 'pretend', '--parts', 'losses', 'engines', '--out', str(out)]
    )
    with pytest.raises(SystemExit) as ended:
        report.main()
    assert ended.value.code == 0, out.read_text()
    assert '| MLKDLoss |' in out.read_text()
