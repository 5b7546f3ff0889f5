"""The documentation builds as a web site, offline and without warnings."""

import re
import subprocess
import sys

import pytest
import toolbox

pytest.importorskip('sphinx', reason='the site needs requirements/docs.txt')


@pytest.mark.slow
def test_the_site_builds_offline_without_a_warning(tmp_path):
    command = ('-m', 'sphinx', '-W', '--keep-going', '-q', '-d', tmp_path / 'doctrees', 'docs', tmp_path / 'site')
    built = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=toolbox.ROOT,
        env=toolbox.environment(),
        capture_output=True,
        text=True,
        timeout=toolbox.TIMEOUT,
    )
    assert built.returncode == 0, built.stderr
    page = (tmp_path / 'site/reference/losses.html').read_text()
    assert 'id="r2kd_mm.losses.rank_distance"' in page
    for path in (tmp_path / 'site/reference').glob('*.html'):  # 'text: more' after `Returns:` is read as a type
        for shown in re.findall(
            r'eturn type<span class="colon">:</span></dt>\s*<dd[^>]*>(.*?)</dd>', path.read_text(), re.S
        ):
            words = re.sub('<[^>]+>', '', shown).split()
            assert len(words) == 1, f'{path.name} takes {" ".join(words)!r} for a type; write it without the colon'
    assert 'method_step.png' in (tmp_path / 'site/method.html').read_text()
    assert '--picture-filter: invert' in (tmp_path / 'site/index.html').read_text()
    assert '<title>Overview' in (tmp_path / 'site/overview.html').read_text()
    css = (tmp_path / 'site/_static/site.css').read_text()
    kept = re.findall(r"src\*='(\w+)'", css)
    assert kept
    for name in kept:  # what a dark page does not invert
        assert (tmp_path / f'site/_images/{name}.png').is_file()
