"""Define the search space of CMKD for tools/tune.py: learning rate, loss weight, temperature and CutMix alpha."""


def space(trial):
    """Return the config fields of a trial, with values that Optuna suggests."""
    return {
        'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 0.02, 1.0, log=True),
        'model.losses.loss_cmkd.loss_weight': trial.suggest_float('cmkd weight', 0.5, 16.0, log=True),
        'model.losses.loss_cmkd.temperature': trial.suggest_float('temperature', 1.0, 10.0, log=True),
        'model.augmentation.alpha': trial.suggest_float('CutMix alpha', 0.1, 2.0, log=True),
    }
