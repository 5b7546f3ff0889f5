"""Lock a folder so that only one process works in it, even if several machines share the disk."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.utils import mkdir_or_exist

HEARTBEAT = 15.0  # seconds between two signs of life of an owner
PATIENCE = 120.0  # an owner on another machine that gave no sign of life for so many seconds is gone
_BOOT = Path('/proc/sys/kernel/random/boot_id')


class Held(BlockingIOError):
    """Error: another process holds the lock."""


@contextlib.contextmanager
def hold(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock file, whose text names its owner.

    A lock of the operating system decides on one machine, and it ends with its process. Not every shared disk passes
    such locks on. So an owner also touches the file now and then, and the file of an owner elsewhere is free once that
    stops. An owner whose file was taken ends at once.

    Args:
        path: The file; it stays, and is empty while nobody holds it.
        refusal: Message where another process holds it, with ``{owner}`` in it.

    Raises:
        Held: Another process holds it.
    """
    mkdir_or_exist(path.parent)
    with path.open('a+') as file:
        os.set_inheritable(file.fileno(), True)  # a process that trains for this one keeps the folder locked
        _claim(file, path, refusal)
        mine = json.dumps(dict(machine=_machine(), host=socket.gethostname(), pid=os.getpid(), token=uuid.uuid4().hex))
        _write(file, mine)
        released = threading.Event()
        beating = threading.Thread(target=_beat, args=(path, mine, released), daemon=True)
        beating.start()
        try:
            yield
        finally:
            released.set()
            beating.join()
            _write(file, '')


def owner_of(path: Path) -> dict[str, Any] | None:
    """Read who holds the file, or held it when it was killed; ``None`` where it was released."""
    try:
        return json.loads(path.read_text() or 'null')
    except (FileNotFoundError, json.JSONDecodeError):
        return None


def is_free(path: Path) -> bool:
    """Tell whether the file was released, or its owner on this machine killed."""
    owner = owner_of(path)
    if owner is None:
        return True
    with path.open('a+') as file:
        return owner['machine'] == _machine() and _lock(file) is True


def last_sign(path: Path) -> float:
    """Return the time of the last sign of life of the owner, by the clock of the disk."""
    with path.open() as file:  # a shared disk looks after the time of a file when the file is opened
        return os.fstat(file.fileno()).st_mtime


def _claim(file: Any, path: Path, refusal: str) -> None:
    locked, owner = _lock(file), owner_of(path)
    here = owner is not None and owner['machine'] == _machine()
    if locked is False and (owner is None or here):
        raise Held(refusal.replace('{owner}', _describe(owner)))
    if owner is None or (locked and here):  # released, or killed
        return
    if _gives_sign(path) or (locked is False and not _lock(file)):
        raise Held(refusal.replace('{owner}', _describe(owner)))


def _lock(file: Any) -> bool | None:
    """Try to lock the file; ``None`` on a file system without locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _gives_sign(path: Path) -> bool:
    before, deadline = last_sign(path), time.monotonic() + PATIENCE
    owner = _describe(owner_of(path))
    print(f'{path}: held by {owner}; waiting for up to {PATIENCE:.0f} s for a sign of life', file=sys.stderr)
    while time.monotonic() < deadline:
        time.sleep(min(1.0, PATIENCE / 10))
        if last_sign(path) != before:
            return owner_of(path) is not None  # else it was released
    return False


def _beat(path: Path, mine: str, released: threading.Event) -> None:
    while not released.wait(HEARTBEAT):
        with contextlib.suppress(OSError):  # a disk that is away for a moment
            if path.read_text() != mine:
                os.write(2, b'another process took the folder, while this one gave no sign of life; this one ends\n')
                os._exit(1)
            os.utime(path)


def _write(file: Any, text: str) -> None:
    file.truncate(0)
    file.write(text)
    file.flush()


def _machine() -> str:
    """Name this machine since it was started; its containers share the name, as they share the locks."""
    return _BOOT.read_text().strip() if _BOOT.is_file() else socket.gethostname()


def _describe(owner: dict[str, Any] | None) -> str:
    return 'another process' if owner is None else f'another process ({owner["pid"]} on {owner["host"]})'
