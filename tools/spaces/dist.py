"""Define the search space of DIST for tools/tune.py: learning rate, inter and intra loss weight, temperature."""


def space(trial):
    """Return the config fields of a trial, with values that Optuna suggests."""
    return {
        'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 0.02, 1.0, log=True),
        'model.losses.loss_dist.inter_weight': trial.suggest_float('inter weight', 0.25, 8.0, log=True),
        'model.losses.loss_dist.intra_weight': trial.suggest_float('intra weight', 0.25, 8.0, log=True),
        'model.losses.loss_dist.temperature': trial.suggest_float('temperature', 1.0, 10.0, log=True),
    }
