"""Files that are written whole or not at all."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend


class AtomicLocalBackend(LocalBackend):
    """Local files that appear under their name only when they are complete and on the disk.

    MMEngine's local backend writes into the file itself, so an interrupt, or a full disk, leaves half a checkpoint in
    the place of the last good one. Used by ``CheckpointHook(backend_args=dict(backend='atomic'))``.
    """

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write ``obj`` to ``filepath``, whose folder is made if need be.

        Raises:
            OSError: The folder cannot be written, or the disk is full; ``filepath`` is then as it was.
        """
        path = Path(os.path.realpath(filepath))  # through a symbolic link, as plain writing does
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(
            f'.{path.name}.{os.getpid()}.tmp'
        )  # same folder: os.replace is atomic only within a disk
        try:
            with temporary.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:  # KeyboardInterrupt too
            temporary.unlink(missing_ok=True)
            raise

    def put_text(self, obj: str, filepath: str | os.PathLike, encoding: str = 'utf-8') -> None:
        """Write ``obj`` to ``filepath`` in ``encoding``; see :meth:`put`."""
        self.put(obj.encode(encoding), filepath)


register_backend('atomic', AtomicLocalBackend, force=True)
