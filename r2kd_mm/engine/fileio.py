"""Files that are written whole or not at all."""

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

# What a disk answers that is full (or at the quota, or at the largest size of a file) or broken.
STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class AtomicLocalBackend(LocalBackend):
    """Local files that appear under their name only when they are complete and on the disk.

    MMEngine's local backend writes into the file itself, so an interrupt, or a full disk, leaves half a checkpoint in
    the place of the last good one. Used by ``CheckpointHook(backend_args=dict(backend='atomic'))``.
    """

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write ``obj`` to ``filepath``, whose folder is made if need be.

        Raises:
            OSError: The folder cannot be written, or the disk is full; ``filepath`` is then as it was. For one of
                :data:`STORAGE_ERRORS` the message has the bytes that were to be written and those that are free.
        """
        path = Path(os.path.realpath(filepath))  # through a symbolic link, as plain writing does
        path.parent.mkdir(parents=True, exist_ok=True)
        # same folder: os.replace is atomic only within a disk
        temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
        try:
            with temporary.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        except BaseException as error:  # KeyboardInterrupt too
            temporary.unlink(missing_ok=True)
            if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
                free = shutil.disk_usage(path.parent).free
                reason = f'{error.strerror}: {len(obj):,} bytes were to be written, {free:,} are free there'
                raise OSError(error.errno, reason, str(filepath)) from error
            raise

    def put_text(self, obj: str, filepath: str | os.PathLike, encoding: str = 'utf-8') -> None:
        """Write ``obj`` to ``filepath`` in ``encoding``; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


def remove_leftovers(folder: str | os.PathLike) -> None:
    """Delete the temporary files of writers that were killed; call it while nobody writes into ``folder``."""
    for path in Path(folder).iterdir():
        if re.fullmatch(r'\..+\.\d+\.tmp', path.name):
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Bring the names in ``folder`` to the disk: without it, a renamed file may have its old name after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


register_backend('atomic', AtomicLocalBackend, force=True)


def check_writable(folder: Path, name: str, option: str) -> None:
    """Make ``folder``, called ``name``, and raise ``OSError`` where nothing can be written into it.

    Args:
        folder: The folder.
        name: What the user knows it as.
        option: By which another one is given.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            f'{name} {str(folder)!r} cannot be written ({error.strerror}); give another by {option}'
        ) from error
