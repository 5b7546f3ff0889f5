"""Keep the workers of a data loader alive when SIGTERM goes to the whole job."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable


def init_worker(worker_init_fn: Callable[[int], None] | None, worker_id: int) -> None:
    """Let SIGTERM end a data worker only if its own process sends it.

    Clusters and torchrun send SIGTERM to every process of a job, and a loader raises when its worker dies.
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
