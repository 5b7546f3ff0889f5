import math

import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from r2kd_mm.teachers import ConfidenceWeights, FixedWeights, LearnedWeights
from r2kd_mm.teachers.weighting import mix

SHARES = [0.5, 0.2, 0.3]


def logits(seed=0):
    return torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(seed)) * 3


def test_a_mix_is_the_weighted_sum_for_weights_of_members_and_of_images():
    members = logits().double()
    expected = 0.5 * members[0] + 0.2 * members[1] + 0.3 * members[2]
    torch.testing.assert_close(mix(members, torch.tensor(SHARES)), expected, rtol=1e-6, atol=1e-6)
    by_image = torch.eye(3)[:, [0, 1, 2, 2, 1, 0]]
    chosen = torch.stack([members[member, image] for image, member in enumerate([0, 1, 2, 2, 1, 0])])
    assert torch.equal(mix(members, by_image), chosen)


def test_fixed_weights_are_the_shares():
    assert FixedWeights(SHARES)(logits()).tolist() == SHARES


@pytest.mark.parametrize(('temperature', 'tau'), [(1.0, 1.0), (4.0, 0.1), (0.5, 2.0)])
def test_confidence_weights_are_those_of_the_formula(temperature, tau):
    members = logits()
    unsure = entropy(softmax(members.double().numpy() / temperature, axis=2), axis=2)
    expected = torch.tensor(SHARES, dtype=torch.float64)[:, None] * torch.from_numpy(unsure).div(-tau).exp()
    weights = ConfidenceWeights(SHARES, temperature, tau)(members)
    torch.testing.assert_close(weights, expected / expected.sum(dim=0))


def test_a_sure_member_against_one_that_guesses_among_four_classes_weighs_four_times_its_share():
    members = torch.zeros(2, 1, 4)
    members[0, 0, 1] = 1000
    weights = ConfidenceWeights([0.5, 0.5])(members)
    torch.testing.assert_close(weights[:, 0], torch.tensor([0.8, 0.2], dtype=torch.float64))


def test_confidence_goes_from_the_shares_to_the_surest_member_with_tau():
    members = logits()
    flat = ConfidenceWeights(SHARES, tau=1e9)(members)
    torch.testing.assert_close(flat, torch.tensor(SHARES, dtype=torch.float64)[:, None].expand(3, 6))
    surest = ConfidenceWeights(SHARES, tau=1e-4)(members)
    unsure = entropy(softmax(members.double().numpy(), axis=2), axis=2)
    assert surest.argmax(dim=0).tolist() == unsure.argmin(axis=0).tolist()
    assert surest.max(dim=0).values.min() > 0.999


def test_a_member_without_a_share_never_gets_one():
    for weighting in (ConfidenceWeights([1.0, 0.0]), LearnedWeights([1.0, 0.0])):
        weights = weighting(logits()[:2]).detach().reshape(2, -1)
        assert weights[0].min() == 1
        assert weights[1].abs().max() == 0


def test_learned_weights_start_at_the_shares_and_go_to_the_member_that_knows_the_labels():
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    members = logits()
    members[1] += 6 * torch.nn.functional.one_hot(labels, 4)
    weighting = LearnedWeights(SHARES)
    torch.testing.assert_close(weighting(members), torch.tensor(SHARES, dtype=torch.float64))
    optimizer = torch.optim.SGD(weighting.parameters(), lr=0.5)
    losses = []
    for _ in range(30):
        losses.append(weighting.loss(members, labels))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert weighting(members)[1] > 0.5
    assert weighting(members).sum().item() == pytest.approx(1)


def test_the_loss_of_learned_weights_is_the_cross_entropy_of_the_ensemble():
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    members = logits()
    log_prob = mix(members, torch.tensor(SHARES)).log_softmax(dim=1)
    expected = -sum(log_prob[image, label].item() for image, label in enumerate(labels)) / 6
    assert LearnedWeights(SHARES).loss(members, labels).item() == pytest.approx(expected, rel=1e-5)


def test_a_learned_share_of_zero_leaves_finite_gradients():
    weighting = LearnedWeights([1.0, 0.0])
    weighting.loss(logits()[:2], torch.zeros(6, dtype=torch.long)).backward()
    assert weighting.offsets.grad.isfinite().all()


@pytest.mark.parametrize('numbers', [dict(tau=0), dict(temperature=-1), dict(tau=math.inf), dict(tau='sharp')])
def test_refuses_numbers_out_of_range(numbers):
    name, value = next(iter(numbers.items()))
    with pytest.raises(ValueError, match=f'{name} must be a positive finite number, got {value!r}'):
        ConfidenceWeights([0.5, 0.5], **numbers)
