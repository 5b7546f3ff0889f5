"""Catch the signal SIGTERM, which a cluster sends before it kills a job, and let all ranks stop at the same step."""

from __future__ import annotations

import signal
import threading
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size


class SigtermWatch:
    """Handler of SIGTERM that keeps the process alive and lets all ranks stop at the same step.

    Args:
        interval: Number of steps between two all-reduces of the signal; a single process checks at each step.

    Example:
        >>> import os
        >>> watch = SigtermWatch(interval=10)
        >>> watch.start()
        >>> watch.asks_to_stop(step=1)
        False
        >>> os.kill(os.getpid(), signal.SIGTERM)
        >>> watch.asks_to_stop(step=2)
        True
        >>> watch.stop()
    """

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._here = False  # this process got the signal
        self._anywhere = False  # all ranks know that one of them got it
        self._previous_handler: Any = None

    def start(self) -> None:
        """Handle SIGTERM from now on; outside of the main thread, where Python allows no handler, do nothing."""
        self._here = self._anywhere = False
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._note) or signal.SIG_DFL

    def stop(self) -> None:
        """Restore the handler that was there before; a second call does nothing."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    def asks_to_stop(self, step: int) -> bool:
        """Return on all ranks whether any of them got SIGTERM; all ranks must call it at the same steps."""
        if get_world_size() == 1:
            self._anywhere = self._here
        elif not self._anywhere and step % self.interval == 0:
            anywhere = torch.tensor(int(self._here))
            all_reduce(anywhere, 'max')
            self._anywhere = bool(anywhere)
        return self._anywhere

    def _note(self, *_: object) -> None:
        self._here = True
