"""Keep data-loader workers alive when a cluster sends SIGTERM to all processes of a job."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


def init_worker(worker_init_fn: Callable[[int], None] | None, worker_id: int) -> None:
    """Make a data worker exit on SIGTERM only if its parent process sent the signal.

    Clusters and torchrun send SIGTERM to every process of a job, and a data loader raises an error if a worker dies.
    """
    if hasattr(signal, 'sigwaitinfo'):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_exit_on_sigterm_of_parent, daemon=True).start()
    if worker_init_fn is not None:
        worker_init_fn(worker_id)


def _exit_on_sigterm_of_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
