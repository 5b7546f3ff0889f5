"""The files of the repository itself: workflows, hooks, container and metadata."""

import ast
import json
import re
import shlex
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest
import toolbox
import yaml
from test_makefile import make

from r2kd_mm import __version__

ROOT = toolbox.ROOT
WORKFLOWS = sorted((ROOT / '.github/workflows').glob('*.yml'))


def jobs(path: Path) -> dict:
    return yaml.safe_load(path.read_text())['jobs']


def commands(job: dict) -> list[str]:
    """The `run:` lines of a job, once for each cell of its matrix."""
    matrix = job.get('strategy', {}).get('matrix', {})
    found = []
    for values in product(*matrix.values()):
        for step in job.get('steps', []):
            command = step.get('run', '')
            for name, value in zip(matrix, values):
                command = command.replace(f'${{{{ matrix.{name} }}}}', value)
            found += command.splitlines()
    return found


@pytest.mark.parametrize('path', WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_calls_make_and_nothing_else(path):
    lines = {line for job in jobs(path).values() for line in commands(job)}
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == 'make', line
        shown = make(*arguments)
        assert shown.returncode == 0, f'{line}\n{shown.stderr}'
        assert shown.stdout.strip(), line


def test_the_workflows_test_every_python_and_both_ends_of_pytorch():
    tests = jobs(ROOT / '.github/workflows/tests.yml')
    pythons = tests['python']['strategy']['matrix']['python']
    (lowest, beyond) = re.search(r">=3\.(\d+),<3\.(\d+)'", (ROOT / 'setup.py').read_text()).groups()
    assert pythons == [f'3.{minor}' for minor in range(int(lowest), int(beyond))]
    assert commands(tests['python']) == ['make lint test'] * 4
    assert commands(tests['torch']) == ['make STACK=oldest test', 'make STACK=newest test']
    assert commands(jobs(ROOT / '.github/workflows/nightly.yml')['all']) == ['make test-all']


def test_a_release_waits_for_the_tests_and_needs_no_password():
    release = jobs(ROOT / '.github/workflows/release.yml')
    assert release['tests']['uses'] == './.github/workflows/tests.yml'
    assert (release['build']['needs'], release['publish']['needs']) == ('tests', 'build')
    assert release['publish']['permissions'] == {'id-token': 'write'}
    assert 'secrets.' not in (ROOT / '.github/workflows/release.yml').read_text()


@pytest.mark.parametrize('fault', [None, 'version.py', 'CITATION.cff', 'CHANGELOG.md'])
def test_a_tag_is_released_only_if_version_citation_and_changelog_have_it(tmp_path, fault):
    texts = {
        'r2kd_mm/version.py': "__version__ = '1.4.0'\n",
        'CITATION.cff': 'version: 1.4.0\n',
        'CHANGELOG.md': '## 1.4.0 - 2027-01-31\n',
    }
    (tmp_path / 'r2kd_mm').mkdir()
    for name, text in texts.items():
        (tmp_path / name).write_text(text.replace('1.4.0', '1x4.0') if fault and name.endswith(fault) else text)
    command = ['make', '-f', ROOT / 'Makefile', 'check-tag', 'TAG=v1.4.0']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert bool(done.returncode) == bool(fault), done.stderr
    assert (fault or '') in done.stderr


def test_package_citation_and_changelog_name_one_version():
    coming = f'{__version__.partition(".dev")[0]} - '
    heading = re.search(r'^## (.+)$', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)[1]
    assert heading.startswith(coming)
    assert yaml.safe_load((ROOT / 'CITATION.cff').read_text())['version'] == __version__


def test_the_hooks_use_the_ruff_of_the_pins():
    pin = re.search(r'^ruff==\S+$', (ROOT / 'requirements/tested.txt').read_text(), re.MULTILINE)[0]
    hooks = yaml.safe_load((ROOT / '.pre-commit-config.yaml').read_text())['repos'][0]['hooks']
    named = {name for hook in hooks for name in hook['additional_dependencies'] if name.startswith('ruff')}
    assert named == {pin}


def test_the_site_is_built_elsewhere_from_the_pins():
    config = yaml.safe_load((ROOT / '.readthedocs.yaml').read_text())
    installs = [shlex.split(line) for line in config['build']['jobs']['install']]
    files = [words[words.index('-r') + 1] for words in installs if '-r' in words]
    assert files == ['requirements/tested.txt']
    assert (ROOT / config['sphinx']['configuration']).is_file()


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile: name and the rest, continued lines joined."""
    text = re.sub(r'^\s*#.*\n', '', (ROOT / 'Dockerfile').read_text(), flags=re.MULTILINE).replace('\\\n', ' ')
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def test_the_image_has_what_its_commands_need():
    steps = instructions()
    assert [name for name, _ in steps] == ['ARG', 'FROM', 'RUN', 'WORKDIR', 'COPY', 'ARG', 'ARG', 'RUN', 'ENV', 'CMD']
    system, install = (rest for name, rest in steps if name == 'RUN')
    assert subprocess.run(['sh', '-n', '-c', system]).returncode == 0
    assert ' -r requirements/tested.txt' in make(*shlex.split(install)[1:]).stdout
    program, script = json.loads(dict(steps)['CMD'])
    assert (program, (ROOT / script).is_file()) == ('python', True)
    ignored = (ROOT / '.dockerignore').read_text().split()
    assert {'.git', '.venv*', 'work_dirs', 'data'} <= set(ignored)
    needed = ('requirements', 'setup.py', 'README.md', 'configs', 'tools', 'r2kd_mm')
    assert not any(Path(name).match(pattern) for name in needed for pattern in ignored)


def docker_answers() -> bool:
    return bool(shutil.which('docker')) and subprocess.run(['docker', 'info'], capture_output=True).returncode == 0


@pytest.mark.slow
def test_the_image_builds():
    if not docker_answers():
        pytest.skip('no docker daemon answers')
    cpu = 'PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu'
    command = ['docker', 'build', '-q', '-t', 'r2kd_mm:test', '--build-arg', cpu, '.']
    subprocess.run(command, cwd=ROOT, check=True, timeout=3 * toolbox.TIMEOUT)
    shown = subprocess.run(['docker', 'run', '--rm', 'r2kd_mm:test'], capture_output=True, text=True)
    assert shown.stdout.splitlines()[-1].startswith('training can work'), shown.stdout


def test_the_dev_container_installs_by_make():
    config = json.loads((ROOT / '.devcontainer/devcontainer.json').read_text())
    assert make(*shlex.split(config['postCreateCommand'])[1:]).returncode == 0
    assert config['customizations']['vscode']['settings']['python.defaultInterpreterPath'].endswith('.venv/bin/python')


def test_the_metadata_names_nobody_that_the_citation_does_not():
    citation = yaml.safe_load((ROOT / 'CITATION.cff').read_text())
    tree = ast.parse((ROOT / 'setup.py').read_text())
    (call,) = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'setup'
    ]
    stated = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
    assert [stated['author']] == [author['name'] for author in citation['authors']]
    assert stated['license'] == citation['license']
    assert not {'author_email', 'maintainer', 'maintainer_email', 'url'} & {word.arg for word in call.keywords}


@pytest.mark.parametrize('address', ['', 'https://example.org/a/r2kd_mm'])
def test_every_link_follows_from_the_one_address_that_the_owner_fills_in(monkeypatch, address):
    stated = {}
    monkeypatch.setattr('setuptools.setup', stated.update)
    source = (ROOT / 'setup.py').read_text()
    assert source.count("REPOSITORY = ''") == 1
    exec(
        compile(source.replace("REPOSITORY = ''", f'REPOSITORY = {address!r}'), ROOT / 'setup.py', 'exec'),
        {'__file__': str(ROOT / 'setup.py')},
    )
    links = stated['project_urls']
    assert {'Paper', 'Preprint'} <= links.keys()
    assert all(link.startswith('https://') for link in links.values())
    own = {name: link.removeprefix(address) for name, link in links.items() if address and link.startswith(address)}
    assert own.keys() == ({'Source', 'Documentation', 'Issues', 'Changelog'} if address else set())
    files = [path.partition('/blob/main/')[2] for path in own.values() if '/blob/' in path]
    assert all((ROOT / file).is_file() for file in files)


def test_the_places_that_wait_for_the_owner_are_known():
    places = ('setup.py', 'CITATION.cff', 'CODE_OF_CONDUCT.md', 'SECURITY.md', '.github/workflows/release.yml')
    for place in places:
        assert (ROOT / place).read_text().count('OWNER:') == 1, place


def test_a_file_can_be_read_in_one_sitting():
    """About 350 lines a file, 20 methods a class; check_env.py runs as one file, without the package."""
    long = []
    for source in sorted((ROOT / 'r2kd_mm').rglob('*.py')):
        text = source.read_text()
        if text.count('\n') > 360 and source.name != 'check_env.py':
            long.append(source.name)
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and sum(isinstance(part, ast.FunctionDef) for part in node.body) > 20:
                long.append(f'{source.name}: {node.name}')
    assert long == []
