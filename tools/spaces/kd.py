"""Define the search space of KD for tools/tune.py: learning rate, weight of KD loss and label loss, temperature."""


def space(trial):
    """Return the config fields of a trial, with values that Optuna suggests."""
    weight = trial.suggest_float('kd weight', 0.5, 0.99)
    return {
        'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 0.02, 1.0, log=True),
        'model.task_loss_weight': 1 - weight,
        'model.losses.loss_kd.loss_weight': weight,
        'model.losses.loss_kd.temperature': trial.suggest_float('temperature', 1.0, 10.0, log=True),
    }
