"""Several processes have the same losses and gradients as one process with the whole batch."""

import pytest
import torch
import torch.distributed as dist
import toys
from ranks import run_on_ranks
from torch.nn.parallel import DistributedDataParallel

from r2kd_mm.augmentations import BatchAugmentation
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.distillers.gathering import LogitGatherer, ViewLogits

SIZE = 10
LOSSES = {
    'R2KD value and rank': dict(
        loss_value=dict(type='CorrelationDistanceLoss'), loss_rank=dict(type='RankDistanceLoss')
    ),
    'DIST': dict(loss=dict(type='DISTLoss')),
    'MLKD': dict(loss=dict(type='MLKDLoss', temperatures=[2.0, 4.0])),
    'MLKD, one level, masked': dict(loss=dict(type='MLKDLoss', batch_weight=0.0, class_weight=0.0)),
    'CMKD over the batch': dict(loss=dict(type='CMKDLoss', batch_wise=True)),
    'CMKD over the batch by labels': dict(loss=dict(type='CMKDLoss', batch_wise=True, difficulty='loss')),
    'standardised DIST': dict(loss=dict(type='LogitStandardization', loss=dict(type='DISTLoss'))),
    'KL': dict(loss=dict(type='KLDivergenceLoss')),
    'DKD and DIST': dict(loss_dkd=dict(type='DKDLoss'), loss_dist=dict(type='DISTLoss')),
    'DKD and Kendall': dict(loss_dkd=dict(type='DKDLoss'), loss_kendall=dict(type='KendallLoss')),
}


class Flip(BatchAugmentation):
    """A view without draws, which several processes and one make alike."""

    def __init__(self, keeps_labels: bool) -> None:
        self.keeps_labels = keeps_labels

    def __call__(self, images, context):
        return images.flip(-1)


def distiller(losses: dict, keeps_labels: bool = True, **fields) -> LogitDistiller:
    torch.manual_seed(0)
    model = LogitDistiller(
        dict(toys.classifier(), _scope_='r2kd_mm'),
        dict(toys.classifier(width=8), _scope_='r2kd_mm'),
        losses,
        allow_untrained_teacher=True,
        augmentation=Flip(keeps_labels),
        **fields,
    )
    return model.double()


def loss_and_gradients(losses: dict, split: list[int], **fields) -> tuple[float, list[torch.Tensor]]:
    """Total loss, averaged over the ranks, and gradients after two steps with sizes in another order each."""
    model = distiller(losses, **fields)
    wrapped = DistributedDataParallel(model) if dist.is_initialized() else model
    wrapped.eval()  # batch norm by its running statistics, which do not depend on the batch
    rank = dist.get_rank() if dist.is_initialized() else 0
    images, samples = toys.batch(SIZE)
    total = 0.0
    for step in range(2):
        sizes = split if step == 0 else split[::-1]
        start = sum(sizes[:rank])
        part = slice(start, start + sizes[rank])
        terms = wrapped(images[part].double(), samples[part], mode='loss')
        loss, _ = model.parse_losses(terms)
        loss.backward()
        total += loss.detach() / len(split)
    if dist.is_initialized():
        dist.all_reduce(total)
    return total.item(), [parameter.grad.clone() for parameter in model.parameters()]


def every_loss(split: list[int]) -> dict[str, tuple[float, list[torch.Tensor]]]:
    results = {name: loss_and_gradients(losses, split) for name, losses in LOSSES.items()}
    # the labels do not hold for the view, so that the clean one alone has them
    results['DKD and DIST, mixed'] = loss_and_gradients(LOSSES['DKD and DIST'], split, keeps_labels=False)
    for consistency in ('KLDivergenceLoss', 'DISTLoss'):
        results[f'KL, {consistency} between views'] = loss_and_gradients(
            LOSSES['KL'], split, consistency=dict(type=consistency)
        )
    return results


@pytest.fixture(scope='module')
def one_process() -> dict[str, tuple[float, list[torch.Tensor]]]:
    return every_loss([SIZE])


@pytest.mark.parametrize(
    'split', [[1, 9], *(pytest.param(split, marks=pytest.mark.slow) for split in ([5, 5], [2, 3, 4, 1]))], ids=str
)
def test_loss_and_gradients_do_not_depend_on_the_processes(split, one_process):
    for of_rank in run_on_ranks(len(split), every_loss, split):
        for name, (expected_loss, expected) in one_process.items():
            loss, gradients = of_rank[name]
            assert loss == pytest.approx(expected_loss, rel=1e-9), name
            for gradient, exact in zip(gradients, expected):
                assert exact.abs().max() > 0, name
                torch.testing.assert_close(gradient, exact, rtol=1e-9, atol=1e-12)


def without_gathering(losses: dict, split: list[int]) -> tuple[float, list[torch.Tensor]]:
    return loss_and_gradients(losses, split, gather=False)


def test_without_gathering_a_batch_wise_loss_depends_on_them():
    losses = LOSSES['DIST']
    expected_loss, _ = loss_and_gradients(losses, [SIZE])
    for loss, _ in run_on_ranks(2, without_gathering, losses, [5, 5]):
        assert abs(loss - expected_loss) > 1e-3 * expected_loss


def collectives_of_three_steps(losses: dict) -> list[int]:
    from r2kd_mm import distributed
    from r2kd_mm.distillers import gathering

    calls = []
    for module in (distributed, gathering):
        module.all_gather = lambda *args, real=module.all_gather: calls.append(1) or real(*args)
    model = distiller(losses)
    images, samples = toys.batch(4)
    seen = []
    for _ in range(3):
        model(images.double(), samples, mode='loss')
        seen.append(len(calls))
        calls.clear()
    return seen


@pytest.mark.parametrize(
    ('losses', 'counts'), [(LOSSES['R2KD value and rank'], [2, 1, 1]), (LOSSES['KL'], [1, 1, 1])], ids=['R2KD', 'KL']
)
def test_one_collective_a_step(losses, counts):
    assert run_on_ranks(2, collectives_of_three_steps, losses) == [counts, counts]


def gathered_soft_labels():
    rank = dist.get_rank()
    logits = torch.full((2, 3), float(rank), requires_grad=True)
    view = ViewLogits(logits, logits.detach() + 10, torch.full((2, 3), rank + 0.25))
    short = ViewLogits(logits[:1].bfloat16(), logits[:1].detach(), None)
    # the same columns in every view: labels in both or in none
    whole, shares = LogitGatherer().gather(dict(clean=view))
    bf16, _ = LogitGatherer().gather(dict(clean=short))
    return (
        whole['clean'].labels.tolist(),
        whole['clean'].teacher.tolist(),
        shares['clean'],
        str(bf16['clean'].student.dtype),
    )


def test_soft_labels_travel_with_their_samples_and_half_precision_is_widened():
    for labels, teacher, share, dtype in run_on_ranks(2, gathered_soft_labels):
        assert labels == [[0.25] * 3] * 2 + [[1.25] * 3] * 2
        assert teacher == [[10.0] * 3] * 2 + [[11.0] * 3] * 2
        assert share == 1
        assert dtype == 'torch.float32'
