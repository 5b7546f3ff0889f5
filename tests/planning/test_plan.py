"""The memory plan of a config: which batch fits, what fits instead, and which mistakes are refused."""

import pytest
import toolbox

from r2kd_mm.planning.plan import largest_batch, make_plan

CONFIG = str(toolbox.ROOT / 'configs/supervised/res6_digits.py')
REPLAY = str(toolbox.ROOT / 'configs/r2kd/r2kd-replay_res14_res6_digits.py')


@pytest.mark.parametrize('start', [2, 64, 5000])
def test_the_largest_batch_fits_and_the_next_does_not(start):
    asked = []

    def peak(images):
        asked.append(images)
        return 1000 + 7 * images + images**2 / 10

    # 0.1 n^2 + 7 n + 1000 = 50000 at n = 665.9
    found = largest_batch(peak, 50000, start)
    assert 658 <= found <= 665
    assert len(set(asked)) < 20


@pytest.mark.parametrize(('limit', 'expected'), [(1000, 0), (10**12, 65536)])
def test_a_limit_beyond_every_batch(limit, expected):
    assert largest_batch(lambda images: 1000 + 7 * images, limit, 64) == expected


@pytest.mark.slow
def test_a_batch_that_does_not_fit_says_what_does():
    roomy = make_plan(CONFIG, image_size=8, batch_size=64, device='t4', only_config=True)
    assert roomy.problem == ''
    needed = roomy.needs['as configured'].memory
    tight = make_plan(CONFIG, image_size=8, batch_size=64, memory=f'{needed / 1e6 * 0.7}MB')
    largest = tight.needs['as configured'].largest
    assert 2 <= largest < 64
    assert 'a batch of 64 does not fit: it needs' in tight.problem
    assert f'the largest batch is {largest}' in tight.problem
    assert 'accumulative_counts=4 needs' in tight.problem
    assert tight.needs['accumulative_counts=4'].memory < needed
    page = tight.to_markdown()
    assert '# res6_digits: 64 images of 8 x 8' in page
    assert '| accumulative_counts=4 | 16 |' in page


@pytest.mark.slow
def test_a_replay_states_its_size_on_disk_and_its_later_steps():
    plan = make_plan(REPLAY, image_size=8, device='h100', num_images=300, only_config=True)
    assert list(plan.needs) == ['as configured']
    assert 'later epochs have no teachers, and are not planned' in plan.to_markdown()
    # float16 of 10 classes and 12 bytes, of 2 views in each round
    cycle = plan.replay / (2 * (10 * 2 + 12))
    assert cycle == int(cycle) >= 1
    assert f'{plan.replay / 1000:.1f} kB on disk for each training image' in plan.to_markdown()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(device='h10'), "no card is called 'h10'"),
        (dict(memory='80'), 'a number above 0 with a unit'),
        (dict(flops=1e12), '--flops and --bandwidth belong together'),
        (dict(flops=1e12, bandwidth=1e9, device='t4'), 'states flops and bandwidth already'),
        (dict(flops=-1.0, bandwidth=1e9), 'numbers above 0, such as 300e12'),
        (dict(), 'states no size of its images; give --image-size'),
    ],
)
def test_a_mistake_is_named_before_anything_is_built(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_plan(CONFIG, **arguments)
