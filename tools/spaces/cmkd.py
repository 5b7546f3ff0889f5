"""What to search for CMKD: the learning rate, the weight, the temperature and the view."""


def space(trial):
    """Choose the fields of a trial."""
    return {
        'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 0.02, 1.0, log=True),
        'model.losses.loss_cmkd.loss_weight': trial.suggest_float('cmkd weight', 0.5, 16.0, log=True),
        'model.losses.loss_cmkd.temperature': trial.suggest_float('temperature', 1.0, 10.0, log=True),
        'model.augmentation.alpha': trial.suggest_float('CutMix alpha', 0.1, 2.0, log=True),
    }
