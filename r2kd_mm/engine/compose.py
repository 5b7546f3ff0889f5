"""Compose a config from two files below ``configs/_base_``: a method, and a teacher with a student and a data set."""

from __future__ import annotations

import difflib
import itertools
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from keyword import iskeyword
from pathlib import Path
from tempfile import TemporaryDirectory

from mmengine import load
from mmengine.config import Config

from r2kd_mm.distributed import process_rank
from r2kd_mm.engine.fileio import AtomicLocalBackend

INSTALLED = Path(__file__).resolve().parents[1] / '.mim' / 'configs'  # of the names that begin with r2kd_mm::
SETTINGS = '_base_/methods/settings.yml'
_IS_PAIR = re.compile(r'^teacher_ckpt = ', re.MULTILINE)  # a base that sets student, teacher and teacher_ckpt


class Composition:
    """Config composed of a distillation method and a pair, which means a teacher, a student and a data set.

    Args:
        configs: The folder ``configs``; its subfolder ``_base_`` holds the methods and pairs.
        method: Name of the method, such as ``'r2kd-mixup'``, with hyphens or underscores.
        pair: Teacher, student and data set, such as ``'res34_res18_stanford-dogs'``. The name of the data set may
            contain underscores.

    Raises:
        ValueError: The method or the pair is unknown; the message lists the known ones.
    """

    def __init__(self, configs: Path, method: str, pair: str) -> None:
        self.configs = configs
        self.method = method.replace('_', '-')
        self.pair = _pair_name(pair)
        base = configs / '_base_'
        methods = {file.stem.replace('_', '-'): file for file in base.glob('methods/*.py')}
        others = (*base.glob('*.py'), *base.glob('pairs/*.py'))
        pairs = {_pair_name(file.stem): file for file in others if _IS_PAIR.search(file.read_text(encoding='utf-8'))}
        self._bases = [_find('method', self.method, methods), _find('pair', self.pair, pairs)]

    @property
    def leaf(self) -> Path:
        """The file of this config in its folder, ``<configs>/r2kd/r2kd-mixup_<pair>.py``, which need not exist."""
        parts = self.method.split('-')
        names = ['-'.join(parts[:end]) for end in range(len(parts), 0, -1)]  # kd-ls has a folder, r2kd-mixup has none
        folder = next((name for name in names if (self.configs / name).is_dir()), self.method)
        return self.configs / folder / f'{self.method}_{self.pair}.py'

    def command(self, out: str = 'FILE') -> str:
        """Say what writes this config to ``out``."""
        return f'python tools/compose_config.py {self.method} {self.pair} --out {out}'

    def text(self, prefix: str = '..') -> str:
        """Return the lines of the config.

        Args:
            prefix: The relative import of the folder ``configs``, with the dot that follows it; ``'..'`` is for a file
                in a folder of ``configs``.
        """
        if self.leaf.is_file():  # it may have settings of its own
            if all(map(_is_importable, self.leaf.relative_to(self.configs).with_suffix('').parts)):
                return self._inherit(prefix, _header(self.leaf), [self.leaf])
            beside = re.sub(
                r'^    from \.(?=\w)', f'    from ..{self.leaf.parent.name}.', self.leaf.read_text('utf-8'), flags=re.M
            )
            return beside.replace('    from ..', f'    from {prefix}')
        (method, *_), (pair, *notes) = map(_header, self._bases)
        header = [f'{method.partition(":")[0]}, {pair.partition(":")[0]}.', *notes]
        data = self.pair.rpartition('_')[2]
        entries = [e for e in load(self.configs / SETTINGS) if e['method'] == self.method and data in e['data']]
        imports = ''.join(f'{entry["imports"]}\n' for entry in entries if 'imports' in entry)
        update = 'model.update(architecture=student, teacher=teacher, teacher_ckpt=teacher_ckpt)\n'
        lines = ''.join(entry['lines'] for entry in entries)
        return f'{self._inherit(prefix, header, self._bases)}\n{imports}{update}{lines}'

    def _inherit(self, prefix: str, header: Iterable[str], bases: Iterable[Path]) -> str:
        """Write the lines of a config that takes over ``bases``."""
        modules = ('.'.join(base.relative_to(self.configs).with_suffix('').parts) for base in bases)
        return (
            ''.join(f'# {line}\n' for line in header)
            + 'from mmengine.config import read_base\n\nwith read_base():\n'
            + ''.join(f'    from {prefix}{module} import *\n' for module in modules)
        )


def write_config(composition: Composition, out: Path) -> None:
    """Write a composed config to a file.

    The config inherits from the method and the pair, in a few lines. A folder such as ``site-packages`` has no name in
    an import; if it lies between ``out`` and ``configs``, every field is written out.

    Raises:
        FileExistsError: ``out`` exists.
    """
    if out.exists():
        raise FileExistsError(f'{out} exists already; give --out another name, or delete it first')
    prefix = _import_prefix(composition.configs, out.parent)
    if prefix is None:
        with _temporary(composition) as file:
            cfg = Config.fromfile(file)
        text = cfg.pretty_text
    else:
        text = composition.text(prefix)
    out.parent.mkdir(parents=True, exist_ok=True)
    AtomicLocalBackend().put_text(text, out)


@contextmanager
def existing_config(path: str) -> Iterator[str]:
    """Yield ``path``, or a temporary file with the composed config if the file was removed; then warn too.

    Args:
        path: A file, or ``r2kd_mm::<method>/<name>.py`` of what is installed.

    Raises:
        FileNotFoundError: ``path`` is named after a method and an unknown pair.
    """
    composition = find_composition(path)
    if composition is None:
        yield path
        return
    if process_rank() == 0:
        warnings.warn(
            f'there is no file {path}. The config is composed of its method and pair; this works until version 0.3. '
            f'Write a file with {composition.command()}',
            FutureWarning,
            stacklevel=4,
        )
    with _temporary(composition) as file:
        yield str(file)


def find_composition(path: str) -> Composition | None:
    """Return the composition that a missing config is named after; ``None`` for a file that exists or another name.

    Args:
        path: See :func:`existing_config`.

    Raises:
        FileNotFoundError: ``path`` is named after a method and an unknown pair.
    """
    package, _, name = path.rpartition('::')
    if package not in ('', 'r2kd_mm'):
        return None
    file = (INSTALLED / name if package else Path(name)).absolute()
    configs = file.parent.parent
    method, _, pair = file.stem.partition('_')
    is_method = (configs / '_base_/methods' / f'{method.replace("-", "_")}.py').is_file()
    if not is_method or file.suffix != '.py' or file.exists():
        return None
    try:
        composition = Composition(configs, method, pair)
    except ValueError as error:  # about the pair
        raise FileNotFoundError(f'there is no config {path!r}, and none can be composed: {error}') from None
    return composition if composition.leaf == file else None


@contextmanager
def _temporary(composition: Composition) -> Iterator[Path]:
    """Yield a file of the leaf's name with the composed config; the file lasts as long as the context."""
    with TemporaryDirectory() as folder:
        Path(folder, 'configs').symlink_to(composition.configs.absolute())
        file = Path(folder, composition.leaf.name)
        file.write_text(composition.text('.configs.'), encoding='utf-8')
        yield file


def _import_prefix(configs: Path, folder: Path) -> str | None:
    """Write ``configs`` as a relative import from ``folder``; return ``None`` if a folder has no name in an import."""
    parts = Path(os.path.relpath(configs.resolve(), folder.resolve())).parts
    names = [part for part in parts if part != os.pardir]
    if not all(map(_is_importable, names)):
        return None
    return '.'.join(('.' * (len(parts) - len(names)), *names, ''))


def _is_importable(name: str) -> bool:
    """Return whether a file or folder of this name can stand in an import; one with a hyphen cannot."""
    return name.isidentifier() and not iskeyword(name)


def _header(file: Path) -> list[str]:
    """Read the comment at the top of a config, line by line."""
    lines = itertools.takewhile(lambda line: line.startswith('#'), file.read_text(encoding='utf-8').splitlines())
    return [line.removeprefix('# ') for line in lines]


def _pair_name(name: str) -> str:
    """Write the data set, the last part of the name of a pair, with hyphens."""
    *networks, data = name.split('_', 2)
    return '_'.join((*networks, data.replace('_', '-')))


def _find(kind: str, name: str, known: Mapping[str, Path]) -> Path:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    guess = f'; did you mean {close[0]!r}?' if close else ''
    raise ValueError(f'there is no {kind} {name!r}{guess}; known: {", ".join(sorted(known))}')
