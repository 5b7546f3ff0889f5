"""Get the distiller, which holds student and teachers, from a runner, without its DDP wrapper."""

from mmengine.runner import Runner

from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.engine import unwrapped_model

# In the message hub: the measured accuracies by name of the teacher.
TEACHER_ACCURACIES = 'teacher_accuracies'


def unwrapped_distiller(runner: Runner, asker: str) -> LogitDistiller:
    """Return the distiller that a runner trains, without its DDP wrapper.

    Raises:
        TypeError: The model of the runner is not a ``LogitDistiller``; the message names ``asker``.
    """
    model = unwrapped_model(runner)
    if not isinstance(model, LogitDistiller):
        raise TypeError(
            f'{asker} works on a LogitDistiller such as R2KD, but the config trains a '
            f'{type(model).__name__}; take the hook out of custom_hooks'
        )
    return model
