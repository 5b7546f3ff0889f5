"""What to search for KD: the learning rate, and how much of which teacher."""


def space(trial):
    """Choose the fields of a trial."""
    weight = trial.suggest_float('kd weight', 0.5, 0.99)
    return {
        'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 0.02, 1.0, log=True),
        'model.task_loss_weight': 1 - weight,
        'model.losses.loss_kd.loss_weight': weight,
        'model.losses.loss_kd.temperature': trial.suggest_float('temperature', 1.0, 10.0, log=True),
    }
