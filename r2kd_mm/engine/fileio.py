"""Write local files atomically, so that a crash never leaves a half-written file under the final name."""

import errno
import os
import re
import shutil
import tempfile
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

# Errors of a disk that is full (or at its quota, or at the largest size of a file) or broken.
STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class AtomicLocalBackend(LocalBackend):
    """Backend that writes local files atomically: to a temporary file, which is renamed once it is on the disk.

    MMEngine's local backend writes directly into the file. An interrupt or a full disk then replaces the last good
    checkpoint by an incomplete one. To select the atomic backend, set
    ``CheckpointHook(backend_args=dict(backend='atomic'))``.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     AtomicLocalBackend().put_text('whole', f'{folder}/note.txt')
        ...     Path(folder, 'note.txt').read_text()
        'whole'
    """

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write ``obj`` to ``filepath``, and make its folder if it is missing.

        Raises:
            OSError: The folder cannot be written, or the disk is full; ``filepath`` then stays as it was. For an error
                in :data:`STORAGE_ERRORS` the message states the bytes to write and the free bytes.
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
    """Delete the temporary files of killed writers; call it only while nobody writes into ``folder``."""
    for path in Path(folder).iterdir():
        if re.fullmatch(r'\..+\.\d+\.tmp', path.name):
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Write the names in ``folder`` to the disk; otherwise a power cut may undo a renaming."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


register_backend('atomic', AtomicLocalBackend, force=True)


def check_writable(folder: Path, name: str, option: str) -> None:
    """Make ``folder`` and raise an ``OSError`` if nothing can be written into it.

    Args:
        folder: Folder to write into.
        name: Name of the folder for the user, such as ``'work_dir'``.
        option: Option that sets another folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise OSError(
            f'{name} {str(folder)!r} cannot be written ({error.strerror}); give another by {option}'
        ) from error
