"""Report in one table whether the installed packages can train, with a remedy for each problem.

This module imports only the standard library until the report is made. So ``python tools/check_env.py`` works even if
the package itself cannot be imported. In a working environment ``python -m r2kd_mm.check_env`` does the same. The exit
status is 1 if training cannot work.
"""

import argparse
import importlib.util
import platform
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import NamedTuple

Version = tuple[int, ...]


class Requirement(NamedTuple):
    """Requirement: a package and the versions that are known to work.

    Attributes:
        names: Distributions that provide the package, the usual one first.
        minimum: Oldest version that works.
        below: First version that is too new; ``None`` without a limit.
        needed_for: Feature that needs the package, or ``''`` if nothing works without it.
        remedy: Command to type; ``None`` gives ``pip install`` with the range.
    """

    names: tuple[str, ...]
    minimum: Version = (0,)
    below: Version | None = None
    needed_for: str = ''
    remedy: str | None = None


class UnusablePackages(ImportError):
    """A package of the stack is missing or does not fit; the message holds the table."""


class Line(NamedTuple):
    """One line of the table; ``status`` is ``ok``, ``note`` (training works) or ``PROBLEM`` (it does not)."""

    subject: str
    found: str
    supported: str
    status: str
    remedy: str = ''


OPENCV = ('opencv-python', 'opencv-python-headless', 'opencv-contrib-python', 'opencv-contrib-python-headless')
PYTHON = Requirement(('python',), (3, 10), (3, 14), remedy='use Python 3.11, the tested one')
REQUIREMENTS = (
    Requirement(('torch',), (2, 1), (3,)),
    Requirement(('torchvision',), (0, 16), (1,)),
    Requirement(('numpy',), (1, 24), (3,)),
    Requirement(OPENCV, (4, 5)),
    Requirement(('mmengine', 'onedl-mmengine'), (0, 10, 7), (0, 11)),
    Requirement(('mmcv-lite', 'mmcv', 'onedl-mmcv'), (2, 1, 0), (2, 1, 1)),
    Requirement(('mmpretrain', 'onedl-mmpretrain'), (1, 2, 0), (1, 4)),
    Requirement(('mmrazor',), (1, 0, 0), (1, 0, 1)),
    Requirement(('setuptools',), (77, 0, 3), (82,), needed_for="configs with 'mmpretrain::' bases, mmengine.hub"),
    # imported by the packages above, and not declared by all of them
    Requirement(('joblib',)),
    Requirement(('einops',)),
    Requirement(('mat4py',)),
    Requirement(('modelindex',)),
    Requirement(('importlib-metadata',)),
    Requirement(('ordered-set',)),
    Requirement(('addict',)),
    Requirement(('yapf',)),
    Requirement(('termcolor',)),
    Requirement(('rich',)),
    Requirement(('matplotlib',)),
    Requirement(('fonttools',)),
    Requirement(('pyyaml',)),
    Requirement(('pillow',)),
    Requirement(('scikit-learn',), needed_for='the digits dataset, so make demo and make compare'),
    Requirement(('scipy',), needed_for="confidence intervals, mmrazor's OFD connector and the tests"),
)


def inspect_environment() -> list[Line]:
    """Check Python, each requirement, and each known trap of the stack."""
    lines = [_version_line(PYTHON, 'python', platform.python_version())]
    for requirement in REQUIREMENTS:
        found = [(name, version) for name in requirement.names if (version := _installed_version(name))]
        lines += [_version_line(requirement, name, version) for name, version in found] or [_missing_line(requirement)]
    return lines + _traps()


def report(lines: list[Line] | None = None) -> str:
    """Return the table as text, with the verdict as its last line."""
    lines = inspect_environment() if lines is None else lines
    rows = [('', 'found', 'supported', 'status'), *(line[:4] for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    texts = []
    for row, remedy in zip(rows, ['', *(line.remedy for line in lines)]):
        texts.append('  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        if remedy:
            texts.append(f'    -> {remedy}')
    problems = [line.subject for line in lines if line.status == 'PROBLEM']
    verdict = f'training cannot work: see {", ".join(problems)}' if problems else 'training can work'
    return '\n'.join([*texts, '', verdict])


def explain_import_errors(load: Callable[[], object]) -> None:
    """Call ``load``, which imports packages of the stack; turn an import error into one with the table.

    Raises:
        UnusablePackages: A package is missing, or does not admit the version of another.
    """
    try:
        load()
    except UnusablePackages:
        raise
    except (ImportError, AssertionError) as error:  # mmrazor asserts the version of mmcv
        if (getattr(error, 'name', None) or '').startswith('r2kd_mm'):
            raise
        raise UnusablePackages(f'r2kd_mm cannot use the installed packages: {error}\n\n{report()}') from error


def main(argv: Sequence[str] = ()) -> int:
    """Print the table; return the exit status."""
    argparse.ArgumentParser(description='Report whether the installed packages can train.').parse_args(argv)
    lines = inspect_environment()
    print(report(lines))
    return int(any(line.status == 'PROBLEM' for line in lines))


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _parse(version: str) -> Version:
    """Return the leading numbers of a version: ``2.13.0+cpu`` gives ``(2, 13, 0)``."""
    return tuple(int(number) for number in re.findall(r'\d+', re.split(r'[^\d.]', version)[0]))


def _text(version: Version) -> str:
    return '.'.join(map(str, version))


def _range(requirement: Requirement) -> str:
    parts = [f'>={_text(requirement.minimum)}'] if any(requirement.minimum) else []
    parts += [f'<{_text(requirement.below)}'] if requirement.below else []
    return ','.join(parts) or 'any'


def _remedy(requirement: Requirement) -> str:
    if requirement.remedy is not None:
        return requirement.remedy
    versions = _range(requirement)
    command = f"pip install '{requirement.names[0]}{'' if versions == 'any' else versions}'"
    return f'{command}  (needed for {requirement.needed_for})' if requirement.needed_for else command


def _missing_line(requirement: Requirement) -> Line:
    status = 'note' if requirement.needed_for else 'PROBLEM'
    return Line(requirement.names[0], 'not installed', _range(requirement), status, _remedy(requirement))


def _version_line(requirement: Requirement, name: str, version: str) -> Line:
    supported = _parse(version) >= requirement.minimum and (
        requirement.below is None or _parse(version) < requirement.below
    )
    if supported:
        return Line(name, version, _range(requirement), 'ok')
    status = 'note' if requirement.needed_for else 'PROBLEM'
    return Line(name, version, _range(requirement), status, _remedy(requirement))


def _traps() -> list[Line]:
    lines = [_distutils(), _numpy_generation(), _opencv_generation()]
    try:
        import torch
    except Exception as error:  # a broken installation raises anything: OSError for a missing library, ImportError ...
        return [
            *lines,
            Line('import torch', _first_line(error), 'imports', 'PROBLEM', 'pip install --force-reinstall torch'),
        ]
    return [*lines, _torchvision_pair(torch), _compiled_torchvision(), _gpu(torch), *_cured_faults(torch)]


def _distutils() -> Line:
    present = importlib.util.find_spec('distutils') is not None
    return Line(
        'module distutils',
        'present' if present else 'absent',
        'present',
        'ok' if present else 'PROBLEM',
        ''
        if present
        else 'each Runner imports it, and from Python 3.12 on setuptools provides it: '
        "pip install 'setuptools>=77.0.3,<82'",
    )


def _numpy_generation() -> Line:
    torch_version, numpy_version = (_parse(_installed_version(name) or '0') for name in ('torch', 'numpy'))
    clash = (2,) <= torch_version < (2, 3) and numpy_version >= (2,)
    return Line(
        'torch with numpy',
        'clash' if clash else 'fit',
        'numpy<2 for torch<2.3',
        'PROBLEM' if clash else 'ok',
        "this torch was built for numpy 1: pip install 'numpy<2' 'opencv-python<4.12'" if clash else '',
    )


def _opencv_generation() -> Line:
    numpy_version = _parse(_installed_version('numpy') or '0')
    opencv = [version for name in OPENCV if (version := _installed_version(name))]
    clash = (0,) < numpy_version < (2,) and any(_parse(version) >= (4, 12) for version in opencv)
    return Line(
        'opencv with numpy',
        'clash' if clash else 'fit',
        'opencv<4.12 for numpy<2',
        'PROBLEM' if clash else 'ok',
        "pip install 'opencv-python<4.12'" if clash else '',
    )


def _torchvision_pair(torch) -> Line:
    """Check the pair of torch and torchvision: torchvision 0.(15 + n) belongs to torch 2.n."""
    torch_version, vision_version = _parse(torch.__version__), _parse(_installed_version('torchvision') or '0')
    fits = torch_version[:1] != (2,) or vision_version[:2] == (0, torch_version[1] + 15)
    expected = f'torchvision 0.{torch_version[1] + 15}'
    return Line(
        'torchvision pair',
        'fit' if fits else 'mismatch',
        f'{expected} for torch {_text(torch_version[:2])}',
        'ok' if fits else 'note',
        '' if fits else f"pip install '{expected.replace(' ', '==')}.*'",
    )


def _compiled_torchvision() -> Line:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            from torchvision.extension import _has_ops
        loaded, reason = _has_ops(), ''
    except Exception as error:
        loaded, reason = False, _first_line(error)
    if loaded:
        return Line('torchvision operators', 'loaded', 'loaded', 'ok')
    known = not reason or 'torchvision::' in reason
    return Line(
        'torchvision operators',
        'not loaded' if known else reason,
        'loaded',
        'note' if known else 'PROBLEM',
        'torchvision was built for another torch (CPU and CUDA builds differ too). r2kd_mm works without its compiled '
        'operators; to have them, install torch and torchvision from the same index'
        if known
        else 'pip install --force-reinstall torchvision',
    )


def _gpu(torch) -> Line:
    if torch.cuda.is_available():
        return Line('GPU', torch.cuda.get_device_name(), 'optional', 'ok')
    return Line(
        'GPU',
        'none',
        'optional',
        'note',
        'training runs on the CPU; for a GPU install a CUDA build of torch that its driver supports',
    )


def _cured_faults(torch) -> list[Line]:
    """List the faults of the upstream packages with this torch; r2kd_mm fixes them on import, so they are notes."""
    from collections import OrderedDict

    torch_version = _parse(torch.__version__)
    faults = (
        (
            "mmrazor's quantization",
            torch_version >= (2, 0),
            'left out at import: mmrazor 1.0.0 has none for torch>=2.0',
        ),
        (
            "mmrazor's inplace switch-off",
            not isinstance(torch.nn.Module()._modules, OrderedDict),
            'does nothing upstream, so recorders see wrong features; import r2kd_mm before a model is built',
        ),
        (
            'checkpoints of the Runner',
            torch_version >= (2, 6),
            'refused by weights_only upstream; import r2kd_mm before loading, which keeps weights_only',
        ),
        (
            'setuptools without pkg_resources',
            importlib.util.find_spec('pkg_resources') is None,
            "'mmpretrain::' bases and mmengine.hub fail: pip install 'setuptools<82'",
        ),
        (
            'launchers without a GPU',
            not torch.cuda.is_available(),
            'fail upstream; tools/train.py and tools/test.py join the processes by gloo',
        ),
    )
    return [
        Line(
            name, 'affected' if present else 'not affected', '', 'note' if present else 'ok', remedy if present else ''
        )
        for name, present, remedy in faults
    ]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
