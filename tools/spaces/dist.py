"""What to search for DIST: the learning rate, its two weights and the temperature."""


def space(trial):
    """Choose the fields of a trial."""
    return {
        'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 0.02, 1.0, log=True),
        'model.losses.loss_dist.inter_weight': trial.suggest_float('inter weight', 0.25, 8.0, log=True),
        'model.losses.loss_dist.intra_weight': trial.suggest_float('intra weight', 0.25, 8.0, log=True),
        'model.losses.loss_dist.temperature': trial.suggest_float('temperature', 1.0, 10.0, log=True),
    }
