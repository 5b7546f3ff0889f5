"""Report whether the installed packages suffice for training, and how to fix each problem, on one screen.

Until the checks run, this module imports only the standard library. So ``python tools/check_env.py`` works even if
``import r2kd_mm`` fails. If the import works, ``python -m r2kd_mm.check_env`` does the same. The exit status is 1 if
training cannot work, otherwise 0.
"""

import argparse
import importlib.util
import platform
import re
import sys
import warnings
from collections.abc import Sequence
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


class Extra(NamedTuple):
    """Package that is optional.

    Attributes:
        name: Distribution.
        brings: Feature that needs it.
        install: Argument of ``pip install``; an extra of r2kd_mm also brings what belongs to the package.
    """

    name: str
    brings: str
    install: str


class Line(NamedTuple):
    """One line of the table.

    Attributes:
        subject: Package, or pair of packages, or fault.
        found: What is installed here.
        supported: What is expected.
        status: ``ok``; ``cured`` for a fault that r2kd_mm works around; ``note`` where training works and something
            else does not; ``PROBLEM`` where training does not work.
        remedy: What to do; empty for ``ok``.
    """

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
    Requirement(('scipy',)),
    Requirement(('pyyaml',)),
    Requirement(('pillow',)),
)
EXTRAS = (
    Extra('scikit-learn', 'the handwritten digits, so make demo and make compare', "'r2kd_mm[demo]'"),
    Extra('jinja2', 'the page of tools/analyze.py', "'r2kd_mm[analysis]'"),
    Extra('timm', 'teachers and students named timm/...', "'r2kd_mm[photos]'"),
    Extra('transformers', 'teachers and students named hf/...', 'transformers'),
    Extra('onnx', 'export and prediction in the format onnx', "'r2kd_mm[export]'"),
    Extra('openvino', 'export and prediction in the format openvino', "'r2kd_mm[openvino]'"),
    Extra('executorch', 'export in the format executorch, int8 of exported', "'r2kd_mm[executorch]'"),
    Extra('imagehash', 'look-alikes among the photos of r2kd-mm distill', "'r2kd_mm[photos]'"),
    Extra('safetensors', 'weights and exports in .safetensors', "'r2kd_mm[export]'"),
    Extra('ray', 'tools/compare.py --engine ray', "'r2kd_mm[ray]'"),
    Extra('submitit', 'tools/compare.py --engine slurm', "'r2kd_mm[slurm]'"),
    Extra('optuna', 'the search of tools/tune.py', "'r2kd_mm[tune]'"),
    Extra('accelerate', 'examples/with_accelerate.py', 'accelerate'),
    Extra('tensorboard', 'curves by TensorboardVisBackend', 'tensorboard'),
)
SHOWN = ('torch', 'torchvision', 'mmengine', 'mmcv-lite', 'mmpretrain', 'mmrazor')  # on the first line


def inspect_environment() -> list[Line]:
    """Check Python, each requirement, and each known trap of the stack."""
    lines = [_version_line(PYTHON, 'python', platform.python_version())]
    for requirement in REQUIREMENTS:
        found = [(name, version) for name in requirement.names if (version := _installed_version(name))]
        lines += [_version_line(requirement, name, version) for name, version in found] or [_missing_line(requirement)]
    return lines + _traps()


def report(lines: list[Line] | None = None, everything: bool = False) -> str:
    """Return the report as text, with the verdict as its last line.

    Args:
        lines: Result of :func:`inspect_environment`; ``None`` calls it.
        everything: Show every line, also those that are ok or cured, as one table.
    """
    lines = inspect_environment() if lines is None else lines
    problems = [line.subject for line in lines if line.status == 'PROBLEM']
    verdict = f'training cannot work: see {", ".join(problems)}' if problems else 'training can work'
    if everything:
        return f'{_table(lines)}\n\n{_extras()}\n\n{verdict}'
    open_lines = [line for line in lines if line.status in ('note', 'PROBLEM')]
    parts = [
        _versions(lines),
        *([_table(open_lines)] if open_lines else []),
        *([] if problems else [_extras()]),
        verdict,
    ]
    return '\n\n'.join(parts)


def _table(lines: list[Line]) -> str:
    rows = [('', 'found', 'supported', 'status'), *(line[:4] for line in lines)]
    texts = []
    for text, remedy in zip(_aligned(rows), ['', *(line.remedy for line in lines)]):
        texts.append(text)
        if remedy:
            texts.append(f'    -> {remedy}')
    return '\n'.join(texts)


def _versions(lines: list[Line]) -> str:
    found = {line.subject: line.found for line in lines}
    shown = ', '.join(f'{name} {found[name]}' for name in ('python', *SHOWN) if name in found)
    fine = sum(line.status in ('ok', 'cured') for line in lines)
    return f'{shown}\n{fine} of {len(lines)} checks passed (--all lists them)'


def _extras() -> str:
    rows = []
    for extra in EXTRAS:
        version = _installed_version(extra.name)
        rows.append(
            (extra.name, version or 'not installed', extra.brings, '' if version else f'pip install {extra.install}')
        )
    return '\n'.join(['optional', *(f'  {text}' for text in _aligned(rows))])


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ['  '.join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def main(argv: Sequence[str] = ()) -> int:
    """Print the report; return the exit status."""
    parser = argparse.ArgumentParser(description='Report whether the installed packages can train.')
    parser.add_argument('--all', action='store_true', help='list every check, also those that passed')
    args = parser.parse_args(argv)
    lines = inspect_environment()
    print(report(lines, args.all))
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
    lines = [_distutils(), _pkg_resources(), _numpy_generation(), _opencv_generation()]
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


def _pkg_resources() -> Line:
    present = importlib.util.find_spec('pkg_resources') is not None
    return Line(
        'module pkg_resources',
        'present' if present else 'absent',
        'present',
        'ok' if present else 'note',
        '' if present else "'mmpretrain::' bases and mmengine.hub fail: pip install 'setuptools<82'",
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
        'cured' if known else 'PROBLEM',
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
    """List the faults of the upstream packages with this torch; r2kd_mm fixes them on import."""
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
            'launchers without a GPU',
            not torch.cuda.is_available(),
            'fail upstream; tools/train.py and tools/test.py join the processes by gloo',
        ),
    )
    return [
        Line(
            name, 'affected' if present else 'not affected', '', 'cured' if present else 'ok', remedy if present else ''
        )
        for name, present, remedy in faults
    ]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
