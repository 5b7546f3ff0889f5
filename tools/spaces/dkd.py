"""Define the search space of DKD for tools/tune.py: learning rate, alpha, beta and temperature."""


def space(trial):
    """Return the config fields of a trial, with values that Optuna suggests."""
    return {
        'optim_wrapper.optimizer.lr': trial.suggest_float('learning rate', 0.02, 1.0, log=True),
        'model.losses.loss_dkd.alpha': trial.suggest_float('alpha', 0.25, 4.0, log=True),
        'model.losses.loss_dkd.beta': trial.suggest_float('beta', 0.5, 16.0, log=True),
        'model.losses.loss_dkd.temperature': trial.suggest_float('temperature', 1.0, 10.0, log=True),
    }
