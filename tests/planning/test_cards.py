"""GPU names and memory sizes are understood, and the least time of operators follows the roofline model."""

from types import SimpleNamespace

import pytest
import torch

from r2kd_mm.planning import CARDS, find_card, read_bytes
from r2kd_mm.planning.trace import Operator


@pytest.mark.parametrize(
    ('given', 'title'), [('h100', 'H100 SXM'), ('RTX 4090', 'GeForce RTX 4090'), ('A100-40GB', 'A100 SXM 40 GB')]
)
def test_a_card_is_found_as_people_write_it(given, title):
    assert find_card(given).title == title


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ('h10', "no card is called 'h10'; did you mean .*h100"),
        ('tpu', "no card is called 'tpu'; Known cards: v100,"),
        ('cuda', '--device cuda: PyTorch sees no GPU here; name a card, such as --device h100'),
        ('cuda:7', '--device cuda:7: PyTorch sees'),
        ('cuda:x', "no card is called 'cuda:x'"),
    ],
)
def test_a_card_that_is_not_known_or_not_there_is_refused(given, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match=message):
        find_card(given)


def present(monkeypatch, name, gigabytes):
    properties = SimpleNamespace(name=name, total_memory=gigabytes * 10**9)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 1)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda place: properties)
    return find_card('cuda')


@pytest.mark.parametrize(
    ('name', 'gigabytes', 'known'),
    [
        ('NVIDIA H100 80GB HBM3', 80, 'h100'),
        ('NVIDIA H100 PCIe', 80, 'h100-pcie'),
        ('NVIDIA A100-SXM4-40GB', 40, 'a100-40gb'),
        ('NVIDIA A100-PCIE-40GB', 40, 'a100-40gb'),
        ('Tesla V100-SXM2-16GB', 16, 'v100-16gb'),
        ('NVIDIA L40S', 48, 'l40s'),
        ('NVIDIA GeForce RTX 4090', 24, 'rtx4090'),
    ],
)
def test_the_gpu_of_this_machine_has_the_figures_of_its_model(monkeypatch, name, gigabytes, known):
    assert present(monkeypatch, name, gigabytes).bandwidth == CARDS[known].bandwidth


@pytest.mark.parametrize('name', ['NVIDIA L40', 'NVIDIA A10G', 'NVIDIA T400', 'NVIDIA GeForce RTX 4090 Laptop GPU'])
def test_a_gpu_does_not_get_the_figures_of_a_model_with_a_similar_name(monkeypatch, name):
    with pytest.raises(ValueError, match=f'no peak figures of the {name} are known'):
        present(monkeypatch, name, 24)


@pytest.mark.parametrize('given', ['80', 'GB', '0GB', '-1GB', '80 cards', 'nanGB'])
def test_a_size_without_a_unit_or_a_number_is_refused(given):
    with pytest.raises(ValueError, match='a number above 0 with a unit, such as 80GB or 16GiB'):
        read_bytes(given)


def test_the_roofline_is_the_slower_of_arithmetic_and_memory():
    card = CARDS['a100']
    convolution = Operator('student', 10**12, 10**9, torch.float32, True)
    product = Operator('student', 10**12, 10**9, torch.float32, False)
    half = Operator('student', 10**12, 10**9, torch.bfloat16, False)
    addition = Operator('student', 0, 10**9, torch.float32, False)
    # TF32 for the convolution alone, as PyTorch sets it
    assert card.arithmetic([convolution, product, half, addition]) == pytest.approx(1 / 156 + 1 / 19.5 + 1 / 312)
    assert card.roofline([addition]) == pytest.approx(1e9 / 2039e9)
    assert card.roofline([product, addition]) == pytest.approx(1 / 19.5 + 1e9 / 2039e9)


@pytest.mark.parametrize(
    ('name', 'dtype', 'tera'),
    [('v100', torch.float32, 15.7), ('v100', torch.bfloat16, 15.7), ('v100', torch.float16, 125)],
)
def test_a_card_without_tensor_cores_for_a_type_computes_in_float32(name, dtype, tera):
    assert CARDS[name].rate(Operator('student', 1, 1, dtype, True)) == tera * 10**12


@pytest.mark.parametrize('card', CARDS.values(), ids=CARDS)
def test_the_figures_are_of_the_right_size(card):
    assert card.float32 <= card.fp16
    assert card.fp16 == card.bf16 or card.bf16 is None
    assert card.memory >= 16e9
    assert 300e9 <= card.bandwidth <= 5e12
