"""Open the Optuna study of a hyper-parameter search from a journal file, which several machines can share."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

JOURNAL = 'study.journal'  # in the folder of a search
PRUNERS = ('median', 'hyperband', 'none')
_STARTUP_TRIALS = 5  # that no trial is held against
_NAME = 'tune'


def require_optuna() -> None:
    """Raise unless Optuna is installed.

    Raises:
        ImportError: Optuna is not installed; the message names the extra to install.
    """
    if importlib.util.find_spec('optuna') is None:
        raise ImportError(
            "a search needs optuna, which is not installed; install the extra: pip install 'r2kd_mm[tune]'"
        )


def open_study(journal: str | os.PathLike, pruner: str = 'median') -> optuna.Study:
    """Open the study in a journal file; the first call makes it.

    Args:
        journal: The file, on a disk that all machines of the search share.
        pruner: One of :data:`PRUNERS`: how poor a trial must be to be stopped.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruners = {
        'median': lambda: optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS),
        'hyperband': optuna.pruners.HyperbandPruner,
        'none': optuna.pruners.NopPruner,
    }
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(os.fspath(journal))),
        study_name=_NAME,
        direction='maximize',
        pruner=pruners[pruner](),
        load_if_exists=True,
    )
