import json

import pytest
import torch
import torch.distributed as dist
from ranks import run_on_ranks

from r2kd_mm.distillers.logit_store import LogitStore, RowFormat

NUM_IMAGES = 7


def opened(folder, num_classes=5, made_from=None, cycle=2, **fields) -> LogitStore:
    store = LogitStore(folder, **fields)
    store.open(made_from or dict(teacher='a'), num_classes, NUM_IMAGES, cycle, ['clean', 'augmented'])
    return store


def logits(count=3, num_classes=5, seed=0):
    return 5 * torch.randn(count, num_classes, generator=torch.Generator().manual_seed(seed))


def test_float32_gives_back_what_was_written(tmp_path):
    opened(tmp_path, dtype='float32').write('clean', 1, [5, 0, 3], logits())
    again = opened(tmp_path, dtype='float32')
    assert torch.equal(again.read('clean', 1, [3, 5]), logits()[[2, 0]])


def test_float16_keeps_three_digits(tmp_path):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 1, 2], logits())
    torch.testing.assert_close(store.read('clean', 0, [0, 1, 2]), logits(), rtol=2**-11, atol=0)


def test_top_k_keeps_the_largest_and_the_probability_of_the_rest():
    given = logits(20, 12)
    form = RowFormat(12, 'float32', top_k=4)
    kept = form.decode(form.encode(given))
    values, classes = given.topk(4, dim=1)
    assert torch.equal(kept.gather(1, classes), values)
    torch.testing.assert_close(kept.softmax(dim=1).gather(1, classes), given.softmax(dim=1).gather(1, classes))
    rest = kept.scatter(1, classes, torch.nan)
    assert all(len(row[~row.isnan()].unique()) == 1 for row in rest)
    assert form.layout.itemsize < RowFormat(12, 'float32').layout.itemsize


def test_knows_what_it_lacks(tmp_path):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 1, 2], logits())
    assert store.read('clean', 0, [2, 3]) is None
    assert store.read('clean', 1, [0]) is None
    assert store.read('augmented', 0, [0]) is None


@pytest.mark.parametrize('suffix', ['rows', 'crc'])
def test_a_torn_row_is_missing_and_the_others_are_not(tmp_path, suffix):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 1, 2], logits())
    path = store.folder / f'clean_0000.{suffix}'
    content = bytearray(path.read_bytes())
    content[len(content) // NUM_IMAGES] ^= 1  # the first byte of the second row
    path.write_bytes(content)
    again = opened(tmp_path)
    assert again.read('clean', 0, [1]) is None
    assert again.read('clean', 0, [0, 2]) is not None
    again.write('clean', 0, [1], logits()[1:2])
    assert again.read('clean', 0, [0, 1, 2]) is not None


def test_a_row_in_the_place_of_another_image_is_missing(tmp_path):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 1, 2], logits())
    for suffix in ('rows', 'crc'):  # as a copy that went wrong has it: the row and its checksum, one place too far
        path = store.folder / f'clean_0000.{suffix}'
        content, size = path.read_bytes(), path.stat().st_size // NUM_IMAGES
        path.write_bytes(content[:size] + content[: 2 * size] + content[3 * size :])
    again = opened(tmp_path)
    assert again.read('clean', 0, [0]) is not None
    assert again.read('clean', 0, [1]) is None
    assert again.read('clean', 0, [2]) is None


def test_a_file_that_was_cut_off_lacks_its_end(tmp_path):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 6], logits(2))
    path = store.folder / 'clean_0000.rows'
    path.write_bytes(path.read_bytes()[:-4])
    again = opened(tmp_path)
    assert again.read('clean', 0, [0]) is not None
    assert again.read('clean', 0, [6]) is None


def test_the_logits_of_another_teacher_are_left_alone(tmp_path):
    opened(tmp_path).write('clean', 0, [0], logits(1))
    store = LogitStore(tmp_path)
    assert store.open(dict(teacher='b', pruner='new'), 5, NUM_IMAGES, 2, ['clean']) == ['pruner', 'teacher']
    assert store.read('clean', 0, [0]) is None
    assert opened(tmp_path).read('clean', 0, [0]) is not None


def test_the_names_tell_from_the_most_similar_store(tmp_path):
    for made_from in (dict(teacher='x', seed='0', data='d'), dict(teacher='a', seed='0', data='d')):
        opened(tmp_path, made_from=made_from)
    new = dict(teacher='a', seed='1', data='d')
    assert LogitStore(tmp_path).open(new, 5, NUM_IMAGES, 2, ['clean']) == ['seed']
    assert LogitStore(tmp_path).open(new, 5, NUM_IMAGES, 2, ['clean']) == []


@pytest.mark.parametrize(
    ('change', 'names'), [(dict(top_k=2), ['format']), (dict(cycle=3), ['cycle']), (dict(num_classes=6), ['format'])]
)
def test_another_form_is_another_store(tmp_path, change, names):
    opened(tmp_path)
    fields = dict(num_classes=5, cycle=2) | change
    store = LogitStore(tmp_path, top_k=fields.get('top_k'))
    assert store.open(dict(teacher='a'), fields['num_classes'], NUM_IMAGES, fields['cycle'], ['clean']) == names


def test_is_complete_after_every_round_and_says_so_to_the_next_run(tmp_path):
    store = opened(tmp_path)
    store.complete(1)
    assert not LogitStore(tmp_path).has_complete
    store.complete(1)
    store.complete(0)
    assert store.is_complete
    assert LogitStore(tmp_path).has_complete
    assert opened(tmp_path).is_complete


def test_a_torn_description_is_none(tmp_path):
    store = opened(tmp_path)
    store.complete(0)
    path = store.folder / 'store.json'
    path.write_text(path.read_text()[:20])
    again = opened(tmp_path)
    assert again.description['complete_rounds'] == []


def test_the_size_is_known_before_it_is_taken(tmp_path):
    store = opened(tmp_path)
    assert store.bytes_needed == sum(path.stat().st_size for path in store.folder.iterdir() if path.suffix != '.json')


def test_too_little_space_is_said_before_anything_is_written(tmp_path):
    store = LogitStore(tmp_path / 'store')
    with pytest.raises(OSError, match=r'the replay needs \d+\.\d GB .* give another folder, a smaller cycle, or top_k'):
        store.open({}, 1000, 10**13, 4, ['clean'])
    assert not [path for path in tmp_path.glob('**/*') if path.is_file()]


def write_own_images(folder):
    store = opened(folder, dtype='float32')
    own = [dist.get_rank(), dist.get_rank() + 2]
    store.write('clean', 0, own, logits(2, seed=dist.get_rank()))
    store.complete(0)
    return store.read('clean', 0, [0, 1, 2, 3])


def test_processes_fill_one_store(tmp_path):
    first, second = logits(2, seed=0), logits(2, seed=1)
    expected = torch.stack([first[0], second[0], first[1], second[1]])
    assert all(torch.equal(seen, expected) for seen in run_on_ranks(2, write_own_images, str(tmp_path)))
    assert json.loads(next(tmp_path.glob('*/store.json')).read_text())['complete_rounds'] == [0]


@pytest.mark.parametrize(
    ('fields', 'message'),
    [(dict(dtype='bf16'), r"one of \('float16', 'float32'\), got 'bf16'"), (dict(top_k=0), 'at least 1, .* got 0')],
)
def test_a_slip_is_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        LogitStore(tmp_path, **fields)


def test_top_k_of_all_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match='top_k of a replay must be below num_classes=5, got 5'):
        opened(tmp_path, top_k=5)
