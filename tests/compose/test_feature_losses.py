"""R2KD combined with the feature losses of mmrazor: each config trains."""

import pytest

CONFIGS = {
    'compose-fitnet_res14_res6_digits': 'loss_hint',
    'compose-at_res14_res6_digits': 'loss_attention',
    'compose-cwd_res14_res6_digits': 'loss_channels',
    'compose-pkd_res14_res6_digits': 'loss_pearson',
    'compose-mgd_res14_res6_digits': 'loss_generation',
}


@pytest.mark.parametrize(('name', 'loss'), CONFIGS.items())
def test_features_are_matched_beside_the_logits_and_the_connectors_learn(name, loss, trained, unmoved):
    runner = trained(name)
    history = {key.removeprefix('train/'): value for key, value in runner.message_hub.log_scalars.items()}
    assert history[f'features.{loss}'].current() > 0
    assert {'student.loss', 'clean.loss_value', 'clean.loss_rank', 'augmented.loss_value'} <= set(history)
    assert unmoved(name) == []
    connectors = [key for key, _ in runner.model.named_parameters() if key.startswith('features.connectors.')]
    assert bool(connectors) == (loss != 'loss_attention')  # its connector only pools
