"""What to search for R2KD: the learning rate, its two weights, the pruned copy and the view."""


def space(trial):
    """Choose the fields of a trial."""
    return {
        'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 0.02, 1.0, log=True),
        'model.losses.loss_value.loss_weight': trial.suggest_float('value weight', 0.25, 8.0, log=True),
        'model.losses.loss_rank.loss_weight': trial.suggest_float('rank weight', 0.25, 8.0, log=True),
        'model.pruner.amount': trial.suggest_float('pruned share', 0.05, 0.5),
        'model.augmentation.alpha': trial.suggest_float('CutMix alpha', 0.1, 2.0, log=True),
    }
