"""Unpack the published files of a data set, arrange and check them, for the prepare_<name>.py scripts.

The destination appears complete or not at all: everything is written to ``DST.partial`` and moved once it has been
checked. An interrupted run leaves nothing that the next one would trust, so the same command simply starts again.
"""

from __future__ import annotations

import argparse
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from r2kd_mm.engine import clear_errors
from r2kd_mm.published import PUBLISHED, Contents, expected_contents, write_contents

if TYPE_CHECKING:
    from rich.progress import Progress

    from r2kd_mm.datasets.image_set import ImageSet

DEEPEST_PART = 2  # folders above a part in an archive: CUB_200_2011/images is at depth 1
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError)


@dataclass(frozen=True)
class Recipe:
    """The instructions that turn the published files of a data set into its folder.

    Attributes:
        key: Name of the data set in the table of published contents.
        parts: Files and folders to keep, as they are called at the top of the data set; all else is left out.
        check: Looks at a whole folder and raises ``FileNotFoundError`` or ``ValueError``, which say what was found and
            what was expected.
        into: Folder below the destination that gets the parts; the destination itself by default.
        place: Where a file of an archive goes below the destination, ``None`` for nowhere; by default as ``parts`` say.
        finish: Called with the folder before the check.
    """

    key: str
    parts: tuple[str, ...]
    check: Callable[[Path], None]
    into: str = ''
    place: Callable[[PurePosixPath], PurePosixPath | None] | None = None
    finish: Callable[[Path], None] | None = None

    def target(self, path: PurePosixPath) -> PurePosixPath | None:
        """Place of the file ``path`` of an archive below the destination; ``None`` where it is not needed."""
        if path.name.startswith('._'):  # what macOS adds to archives
            return None
        if self.place is not None:
            return self.place(path)
        for depth, name in enumerate(path.parts[: DEEPEST_PART + 1]):
            if name in self.parts:
                return PurePosixPath(self.into, *path.parts[depth:])
        return None


def check_image_set(dataset: type[ImageSet]) -> Callable[[Path], None]:
    """A :attr:`Recipe.check` that has ``dataset`` look for its samples in both splits."""

    def check(folder: Path) -> None:
        for split in PUBLISHED[dataset.key].contents.images:
            dataset(str(folder), split, lazy_init=True).find_samples()

    return check


def main(key: str, make_recipe: Callable[[], Recipe], argv: list[str] | None = None) -> None:
    """Command line of a prepare script; errors end the program with one message and exit status 1.

    Args:
        key: :attr:`Recipe.key`.
        make_recipe: Imports the data set, and gives its recipe.
        argv: The arguments; ``None`` takes those of the program.
    """
    published = PUBLISHED[key]
    train, val = published.contents.images
    parser = argparse.ArgumentParser(
        description=f'Unpack, arrange and check {published.title}: {", ".join(published.archives)} of {published.url}.'
    )
    parser.add_argument('source', type=Path, help='the archive, or a folder that holds the archives or what is in them')
    parser.add_argument('dst', type=Path, help=f'folder to make, such as data/{key}')
    parser.add_argument(
        '--contents',
        type=int,
        nargs=3,
        metavar=('CLASSES', train.upper(), val.upper()),
        help=f'numbers of classes, {train} and {val} images of a miniature or a subset (default: {published.contents})',
    )
    args = parser.parse_args(argv)
    with clear_errors():
        contents = published.contents
        if args.contents is not None:
            contents = Contents(args.contents[0], {train: args.contents[1], val: args.contents[2]})
        prepare(make_recipe(), args.source.expanduser(), args.dst.expanduser(), contents)


def prepare(recipe: Recipe, source: Path, dst: Path, contents: Contents) -> None:
    """Make the folder ``dst`` of a data set from its published files; nothing is done where it is complete already.

    Args:
        recipe: What to keep, and how to check it.
        source: An archive, or a folder that holds the archives or the unpacked files.
        dst: Folder to make.
        contents: Numbers of classes and images to expect; stated in the folder where they are not those published.

    Raises:
        FileNotFoundError: There is no such source, or nothing in it that belongs to the data set.
        FileExistsError: ``dst`` exists and holds something else.
        ValueError: An archive is broken or hostile, or the result is not complete.
        RuntimeError: Interrupted by Ctrl-C.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    published = PUBLISHED[recipe.key]
    dst = dst.resolve()  # so that it has a name, and a neighbour on the same disk
    if dst.exists() and not (dst.is_dir() and not any(dst.iterdir())):
        _check_existing(recipe, dst, contents)
        print(f'{dst} holds {published.title} already: {contents}')
        return
    archives, files = find_sources(recipe, source)
    partial = dst.with_name(f'{dst.name}.partial')
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    try:
        partial.mkdir(parents=True)
        with Progress(
            TextColumn('{task.description}'), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        ) as progress:
            for archive in archives:
                unpack(archive, partial, recipe.target, progress)
            copy_files(files, partial, progress)
        if contents != published.contents:
            write_contents(contents, partial)
        _check_result(recipe, partial, source)
        os.replace(partial, dst)
    except KeyboardInterrupt:
        raise RuntimeError(f'interrupted; {dst} was not made, and the same command starts again') from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f'{dst}: {published.title}, {contents}')


def _check_existing(recipe: Recipe, dst: Path, contents: Contents) -> None:
    try:
        found = expected_contents(recipe.key, dst)
        if found != contents:
            raise ValueError(f'it is made for {found}, not for {contents}')
        recipe.check(dst)
    except (OSError, ValueError) as error:
        raise FileExistsError(
            f'{dst} exists and is not the whole of {PUBLISHED[recipe.key].title}: {error}; '
            'move it away, or name another folder'
        ) from error


def _check_result(recipe: Recipe, folder: Path, source: Path) -> None:
    try:
        if recipe.finish is not None:
            recipe.finish(folder)
        recipe.check(folder)
    except (FileNotFoundError, ValueError) as error:
        published = PUBLISHED[recipe.key]
        raise ValueError(
            f'{source} does not give the whole of {published.title}: {error}. It takes {", ".join(published.archives)} '
            f'of {published.url}: put them into one folder and name that; download again what is incomplete'
        ) from error


def find_sources(recipe: Recipe, source: Path) -> tuple[list[Path], dict[PurePosixPath, Path]]:
    """The archives to unpack, and the files to copy by their place below the destination.

    Raises:
        FileNotFoundError: There is no such source, or nothing in it that belongs to the data set.
    """
    published = PUBLISHED[recipe.key]
    if source.is_file():
        return [source], {}
    if not source.is_dir():
        raise FileNotFoundError(f'there is no {source}; get {", ".join(published.archives)} from {published.url}')
    archives = [source / name for name in published.archives if (source / name).is_file() and name not in recipe.parts]
    files = {}
    for part in recipe.parts:
        top = source / part
        for path in [top, *top.rglob('*')]:
            if path.is_file():
                files[PurePosixPath(recipe.into, path.relative_to(source).as_posix())] = path
    if not archives and not files:
        found = ', '.join(sorted(os.listdir(source))[:10]) or 'nothing'
        unpacked = f', nor {", ".join(recipe.parts)} unpacked' if recipe.parts else ''
        raise FileNotFoundError(
            f'{source} holds {found}, but neither {", ".join(published.archives)} of {published.url}{unpacked}'
        )
    return archives, files


def copy_files(files: dict[PurePosixPath, Path], folder: Path, progress: Progress) -> None:
    """Copy ``files`` to their places below ``folder``."""
    sizes = {target: path.stat().st_size for target, path in files.items()}
    task = progress.add_task('copying', total=sum(sizes.values()), visible=bool(files))
    for target, path in files.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / target)
        progress.advance(task, sizes[target])


def unpack(
    archive: Path, folder: Path, target: Callable[[PurePosixPath], PurePosixPath | None], progress: Progress
) -> None:
    """Write files of a zip or tar archive, and of the tar archives in it, to their places below ``folder``.

    Args:
        archive: The file.
        folder: Where to.
        target: Place of a member below ``folder``; ``None`` for those to leave out.
        progress: Shows how much of the archive has been read.

    Raises:
        ValueError: The archive is broken; or a member's path leads out of the folder; or a member that has a place is
            a link or a device.
    """
    task = progress.add_task(archive.name, total=archive.stat().st_size)
    with archive.open('rb') as raw:
        try:
            for path, content in _members(raw, target):
                place = target(path)
                if place is not None:
                    (folder / place).parent.mkdir(parents=True, exist_ok=True)
                    with (folder / place).open('wb') as file:
                        shutil.copyfileobj(content, file)
                progress.update(task, completed=raw.tell())
        except BROKEN as error:
            raise ValueError(f'{archive} is broken, or no zip or tar archive ({error}); download it again') from error
        except HostileArchiveError as error:
            raise ValueError(f'{archive} was not unpacked: {error}; get the original') from error
    progress.update(task, completed=archive.stat().st_size)


class HostileArchiveError(Exception):
    """A member that no published archive has, and that could harm."""


def _members(
    raw: BinaryIO, target: Callable[[PurePosixPath], PurePosixPath | None]
) -> Iterator[tuple[PurePosixPath, BinaryIO]]:
    """Path and content of each file; those of a tar archive inside are below a folder of its name."""
    if zipfile.is_zipfile(raw):
        with zipfile.ZipFile(raw) as archive:
            for info in archive.infolist():
                path = _safe_path(info.filename)
                if not info.is_dir():
                    if stat.S_ISLNK(info.external_attr >> 16) and target(path) is not None:
                        raise HostileArchiveError(f'{info.filename!r} is a link')
                    with archive.open(info) as content:
                        yield path, content
        return
    raw.seek(0)
    for path, content in _tar_members(raw, 'r|*', target):
        if path.suffix == '.tar':
            for inner, inner_content in _tar_members(content, 'r|', target):
                yield path.with_suffix('') / inner, inner_content
        else:
            yield path, content


def _tar_members(
    raw: BinaryIO, mode: str, target: Callable[[PurePosixPath], PurePosixPath | None]
) -> Iterator[tuple[PurePosixPath, BinaryIO]]:
    with tarfile.open(fileobj=raw, mode=mode) as archive:
        for member in archive:
            path = _safe_path(member.name)
            if member.isfile():
                yield path, archive.extractfile(member)
            elif not member.isdir() and target(path) is not None:
                raise HostileArchiveError(f'{member.name!r} is a link or a device')


def _safe_path(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or '..' in path.parts or '\\' in name:
        raise HostileArchiveError(f'the path {name!r} could lead out of the folder')
    return path
