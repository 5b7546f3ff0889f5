"""Define the search space of R2KD for tools/tune.py: learning rate, loss weights, pruned share and CutMix alpha.

The pruned share is the fraction of the teacher weights that its pruned copy sets to zero.
"""


def space(trial):
    """Return the config fields of a trial, with values that Optuna suggests."""
    return {
        'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 0.02, 1.0, log=True),
        'model.losses.loss_value.loss_weight': trial.suggest_float('value weight', 0.25, 8.0, log=True),
        'model.losses.loss_rank.loss_weight': trial.suggest_float('rank weight', 0.25, 8.0, log=True),
        'model.pruner.amount': trial.suggest_float('pruned share', 0.05, 0.5),
        'model.augmentation.alpha': trial.suggest_float('CutMix alpha', 0.1, 2.0, log=True),
    }
