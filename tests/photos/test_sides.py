"""Each network of a distillation is built with the weights that it starts from."""

from types import SimpleNamespace

import pytest
from torch import nn

from r2kd_mm.photos.sides import initial_network


class Offline(nn.Module):
    """A network whose collection has no connection."""

    def __init__(self) -> None:
        super().__init__()
        raise OSError('The file was not found. Please check your connection.\nThe second line.')


def test_weights_that_cannot_be_had_are_refused_in_one_sentence_each():
    side = SimpleNamespace(network=SimpleNamespace(config=dict(type=Offline)))
    with pytest.raises(ValueError) as error:
        initial_network(side, 'timm/resnet34', 'published')
    assert str(error.value) == (
        'timm/resnet34 cannot start from its published weights: The file was not found. Please check your connection. '
        "Give their file (--teacher-init, --student-init), or 'none' for random weights"
    )
    with pytest.raises(OSError, match='The second line'):
        initial_network(side, 'timm/resnet34', 'none')
