"""The simulated device itself detects each kind of mistake."""

import pytest
import torch
from devices import pretend
from torch import nn

GENERATOR = torch.Generator()


def on_device(*shape: int) -> torch.Tensor:
    return torch.ones(shape, device=pretend.NAME)


MIXED = dict(
    sum=lambda: on_device(2) + torch.ones(2),
    buffer_left_behind=lambda: nn.functional.batch_norm(on_device(2, 3), torch.zeros(3), torch.ones(3)),
    stack=lambda: torch.stack([on_device(), torch.ones(())]),
    scalars=lambda: torch.cat([on_device(1), torch.ones(1)]),
    in_place_on_the_host=lambda: torch.ones(2).add_(on_device(2)),
    number_in_place_on_the_host=lambda: torch.ones(()).add_(on_device()),
    device_index_of_a_host_tensor=lambda: torch.ones(3)[on_device(2).long()],
    target_left_behind=lambda: nn.functional.cross_entropy(on_device(2, 3), torch.tensor([0, 1])),
    parameter_left_behind=lambda: nn.Linear(3, 3)(on_device(2, 3)),
    generator_of_the_host=lambda: torch.rand(2, device=pretend.NAME, generator=GENERATOR),
    permutation_by_a_generator_of_the_host=lambda: torch.randperm(4, device=pretend.NAME, generator=GENERATOR),
    dropout_in_place_by_a_generator_of_the_host=lambda: on_device(3).bernoulli_(generator=GENERATOR),
    where=lambda: torch.where(on_device(2) > 0, torch.ones(2), on_device(2)),
    gather=lambda: on_device(2, 3).gather(1, torch.zeros(2, 1, dtype=torch.long)),
)


@pytest.mark.parametrize('mistake', MIXED.values(), ids=MIXED)
def test_mixed_devices_are_refused(mistake):
    with pytest.raises(pretend.MixedDevices, match='test_pretend.py'):
        mistake()


WAITS = dict(
    item=lambda: on_device().item(),
    float=lambda: float(on_device()),
    truth=lambda: bool((on_device(2) > 0).all()),
    tolist=lambda: on_device(2).tolist(),
    cpu=lambda: on_device(2).cpu(),
    to_the_device=lambda: torch.ones(2).to(pretend.NAME),
    tensor_of_a_list=lambda: torch.tensor([1, 2], device=pretend.NAME),
    number=lambda: torch.tensor(1.0, device=pretend.NAME),
    not_pinned=lambda: torch.ones(2).to(pretend.NAME, non_blocking=True),
    mask=lambda: on_device(2)[on_device(2) > 0],
    assignment_by_a_mask=lambda: on_device(2).index_put_((on_device(2) > 0,), on_device(2)),
    nonzero=lambda: on_device(2).nonzero(),
    unique=lambda: on_device(2).unique(),
    bincount=lambda: on_device(2).long().bincount(),
    index_of_the_host=lambda: on_device(3)[torch.tensor([0, 1])],
    repeats=lambda: on_device(2).repeat_interleave(on_device(2).long()),
    copy_in_place=lambda: torch.ones(2).copy_(on_device(2)),
    equal=lambda: torch.equal(on_device(2), on_device(2)),
    print=lambda: str(on_device(2).sum().item()),
)


@pytest.mark.parametrize('mistake', WAITS.values(), ids=WAITS)
def test_a_wait_is_recorded_once_with_its_line(mistake):
    with pretend.recorded_waits() as waits:
        mistake()
    (wait,) = waits
    assert wait.file == 'tests/devices/test_pretend.py'
    assert '=lambda: ' in wait.line


FREE = dict(
    number_of_the_host=lambda: on_device(2) * torch.tensor(2.0),
    pinned=lambda: torch.ones(2).pin_memory().to(pretend.NAME, non_blocking=True),
    late=lambda: on_device(2).to('cpu', non_blocking=True),
    fill_by_a_mask=lambda: on_device(2).masked_fill(on_device(2) > 0, 1),
    assign_a_number_by_a_mask=lambda: on_device(2).index_put_((on_device(2) > 0,), on_device()),
    draw=lambda: nn.functional.dropout(on_device(3)),
    index=lambda: on_device(3)[on_device(2).long()],
)


@pytest.mark.parametrize('work', FREE.values(), ids=FREE)
def test_what_an_accelerator_does_on_its_own_waits_for_nothing(work):
    with pretend.recorded_waits() as waits:
        work()
    assert not waits


READS = dict(
    tolist=lambda copy: copy.tolist(),
    item=lambda copy: copy[0].item(),
    numpy=lambda copy: copy.numpy(),
    operation=lambda copy: copy + 1,
    view=lambda copy: copy[1:].sum(),
    back_to_the_device=lambda copy: copy.to(pretend.NAME),
)


@pytest.mark.parametrize('read', READS.values(), ids=READS)
def test_a_late_copy_is_not_read_before_a_wait(read):
    copy = (2 * on_device(2)).to('cpu', non_blocking=True)
    with pytest.raises(pretend.ReadTooEarly, match='before the device was waited for'):
        read(copy)
    torch.pretend.synchronize()
    read(copy)
    assert copy.tolist() == [2, 2]


def test_an_event_tells_when_a_copy_is_there():
    copy = on_device(2).to('cpu', non_blocking=True)
    event = torch.pretend.Event()
    event.record()
    assert not event.query()
    for _ in range(pretend.LAG):
        on_device(1).add_(1)
    with pretend.recorded_waits() as waits:
        assert event.query()
        assert copy.tolist() == [1, 1]
    assert not waits


def test_numpy_of_the_device_is_refused():
    with pytest.raises(TypeError, match="can't convert pretend:0"):
        on_device(2).numpy()


def test_gradients_are_those_of_the_cpu():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    images = torch.randn(2, 3, 8, 8)
    gradients = []
    for device in ('cpu', pretend.NAME):
        network.to(device).zero_grad()
        network(images.to(device)).square().sum().backward()
        gradients.append([parameter.grad.cpu() for parameter in network.parameters()])
    for first, second in zip(*gradients):
        assert torch.equal(first, second)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast_lowers_a_product_and_keeps_a_softmax(dtype):
    layer, inputs = nn.Linear(3, 4).to(pretend.NAME), on_device(2, 3)
    with torch.autocast(pretend.NAME, dtype=dtype):
        logits = layer(inputs)
        assert logits.dtype == dtype
        assert logits.softmax(dim=1).dtype == torch.float32
    assert layer(inputs).dtype == torch.float32


def test_draws_of_the_device_leave_the_generator_of_the_host_alone():
    before = torch.get_rng_state()
    draws = [torch.rand(3, device=pretend.NAME).tolist() for _ in range(2)]
    assert draws[0] != draws[1]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(0)
    first = torch.rand(3, device=pretend.NAME).tolist()
    torch.manual_seed(0)
    assert torch.rand(3, device=pretend.NAME).tolist() == first
