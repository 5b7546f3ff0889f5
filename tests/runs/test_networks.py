"""Trained networks are loaded from the folder of a run, under whichever prefix the checkpoint has their weights."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from run_folders import ALONE, R2KD, write_run, write_teacher

from r2kd_mm.runs import accuracy, load_network, validation_logits


def read(folder):
    (config,) = folder.glob('*/vis_data/config.py')
    return Config.fromfile(config), folder / 'epoch_200.pth'


@pytest.mark.parametrize(('config', 'prefix'), [(ALONE, ''), (R2KD, 'architecture.')])
def test_a_network_has_the_weights_of_its_checkpoint(config, prefix, tmp_path):
    cfg, checkpoint = read(write_run(tmp_path / 'run', config))
    text = cfg.pretty_text
    network = load_network(cfg, checkpoint)
    assert not network.training
    weights = torch.load(checkpoint, weights_only=False)['state_dict']
    assert all(torch.equal(value, weights[prefix + name]) for name, value in network.state_dict().items())
    assert cfg.pretty_text == text


def test_a_network_is_found_by_its_short_name_outside_of_a_run(tmp_path):
    cfg, checkpoint = read(write_run(tmp_path / 'run'))
    with DefaultScope.overwrite_default_scope('mmengine'):  # as in a process that has run nothing
        network = load_network(cfg, checkpoint)
        _, labels = validation_logits({'one': network}, cfg)
    assert len(labels) == 100


def test_the_checkpoint_of_another_network_is_refused(tmp_path):
    cfg, _ = read(write_run(tmp_path / 'run'))
    with pytest.raises(ValueError, match='does not fit this ImageClassifier'):
        load_network(cfg, write_teacher(tmp_path))


@torch.no_grad()
def test_logits_are_those_of_the_validation_images_in_their_order(tmp_path):
    cfg, checkpoint = read(write_run(tmp_path / 'run'))
    network = load_network(cfg, checkpoint)
    logits, labels = validation_logits({'one': network, 'same': network}, cfg)
    assert logits['one'].shape == (100, 10)
    assert torch.equal(logits['one'], logits['same'])
    correct = (logits['one'].argmax(dim=1) == labels).sum().item()
    assert accuracy(logits['one'], labels) == pytest.approx(correct)  # of 100 images
