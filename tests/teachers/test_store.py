import json
import os
import resource
import shutil

import pytest
import torch
import torch.distributed as dist
from ranks import run_on_ranks

from r2kd_mm.teachers.store import LogitStore, RowFormat

NUM_IMAGES = 7


def opened(folder, num_classes=5, made_from=None, cycle=2, **fields) -> LogitStore:
    store = LogitStore(folder, **fields)
    store.open(made_from or dict(teacher='a'), num_classes, NUM_IMAGES, cycle, ['clean', 'augmented'])
    return store


def logits(count=3, num_classes=5, seed=0):
    return 5 * torch.randn(count, num_classes, generator=torch.Generator().manual_seed(seed))


def inputs(images):
    """Checksums of the inputs of images."""
    return [2**32 - 1 - image for image in images]


def test_float32_gives_back_what_was_written(tmp_path):
    opened(tmp_path, dtype='float32').write('clean', 1, [5, 0, 3], inputs([5, 0, 3]), logits())
    again = opened(tmp_path, dtype='float32')
    assert torch.equal(again.read('clean', 1, [3, 5], inputs([3, 5])), logits()[[2, 0]])


def test_float16_keeps_three_digits(tmp_path):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 1, 2], inputs([0, 1, 2]), logits())
    torch.testing.assert_close(store.read('clean', 0, [0, 1, 2], inputs([0, 1, 2])), logits(), rtol=2**-11, atol=0)


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


@pytest.mark.parametrize('top_k', [None, 2])
@pytest.mark.parametrize('size', [1e-30, 1e-6, 1.0, 65504.0, 1e6, 3e38])
def test_float16_keeps_three_digits_of_logits_of_any_size(size, top_k):
    """Beyond 65504 float16 overflows, and below 6e-8 all its values are 0."""
    given = size * torch.tensor([[1.0, -0.75, 0.3, 0.2998, 1e-3], [0.0, 0.0, 0.0, 0.0, 0.0]])
    form = RowFormat(5, 'float16', top_k)
    kept = form.decode(form.encode(given))
    expected = RowFormat(5, 'float32', top_k)
    torch.testing.assert_close(kept, expected.decode(expected.encode(given)), rtol=2**-11, atol=0)


def test_float16_keeps_logits_that_are_not_finite():
    given = torch.tensor([[1.0, -torch.inf, torch.inf, torch.nan, 2.0]])
    form = RowFormat(5)
    torch.testing.assert_close(form.decode(form.encode(given)), given, equal_nan=True)


def test_logits_of_another_input_are_missing_and_are_counted(tmp_path):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 1, 2], inputs([0, 1, 2]), logits())
    assert store.read('clean', 0, [0, 1, 2], [*inputs([0, 1]), 7]) is None
    assert store.num_changed == 1
    assert store.count_changed('clean', 0, [0, 1, 2, 3], [5, 6, 7, 8]) == 3  # the fourth was never written
    assert store.read('clean', 0, [0, 1], inputs([0, 1])) is not None
    store.write('clean', 0, [2], [7], logits(1))
    assert torch.equal(store.read('clean', 0, [2], [7]), opened(tmp_path).read('clean', 0, [2], [7]))


def test_forgotten_rounds_are_gone_through_again_and_their_rows_kept(tmp_path):
    store = opened(tmp_path)
    store.write('clean', 0, [0], inputs([0]), logits(1))
    store.complete(0)
    store.complete(1)
    store.forget_rounds()
    assert not store.is_complete
    again = opened(tmp_path)
    assert again.description['complete_rounds'] == []
    assert again.read('clean', 0, [0], inputs([0])) is not None


def test_a_store_of_any_number_of_rounds_holds_few_files_open(tmp_path):
    store, limits = opened(tmp_path, cycle=300), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir('/proc/self/fd')) + 20, limits[1]))
    try:
        for number in range(300):
            for view in ('clean', 'augmented'):
                store.write(view, number, [0], inputs([0]), logits(1, seed=number))
        for number in (299, 0):
            assert torch.equal(store.read('clean', number, [0], inputs([0])), logits(1, seed=number).half().float())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_store_of_another_version_is_named_and_not_used(tmp_path):
    store = opened(tmp_path)
    for number in range(2):
        store.complete(number)
    old = tmp_path / 'old'
    shutil.copytree(store.folder, old)
    (old / 'store.json').write_text(json.dumps(dict(made_from=dict(teacher='a'), cycle=2, complete_rounds=[0, 1])))
    shutil.rmtree(store.folder)
    again = LogitStore(tmp_path)
    assert not again.has_complete
    assert again.open(dict(teacher='a'), 5, NUM_IMAGES, 2, ['clean']) == []
    assert again.outdated == [old]
    assert not again.is_complete


def test_knows_what_it_lacks(tmp_path):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 1, 2], inputs([0, 1, 2]), logits())
    assert store.read('clean', 0, [2, 3], inputs([2, 3])) is None
    assert store.read('clean', 1, [0], inputs([0])) is None
    assert store.read('augmented', 0, [0], inputs([0])) is None


@pytest.mark.parametrize('field', ['checksum', 'input', 'exponent', 'logits'])
def test_a_torn_row_is_missing_and_the_others_are_not(tmp_path, field):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 1, 2], inputs([0, 1, 2]), logits())
    path = store.folder / 'clean_0000.rows'
    content, layout = bytearray(path.read_bytes()), RowFormat(5).layout
    content[layout.itemsize + layout.fields[field][1]] ^= 1  # in the second row
    path.write_bytes(content)
    again = opened(tmp_path)
    assert again.read('clean', 0, [1], inputs([1])) is None
    assert again.read('clean', 0, [0, 2], inputs([0, 2])) is not None
    again.write('clean', 0, [1], inputs([1]), logits()[1:2])
    assert again.read('clean', 0, [0, 1, 2], inputs([0, 1, 2])) is not None


def test_a_row_in_the_place_of_another_image_is_missing(tmp_path):
    store, same = opened(tmp_path), [9, 9, 9]
    store.write('clean', 0, [0, 1, 2], same, logits())
    path = store.folder / 'clean_0000.rows'  # as a copy that went wrong has it: a row one place too far
    content, size = path.read_bytes(), path.stat().st_size // NUM_IMAGES
    path.write_bytes(content[:size] + content[: 2 * size] + content[3 * size :])
    again = opened(tmp_path)
    assert again.read('clean', 0, [0], same[:1]) is not None
    assert again.read('clean', 0, [1], same[:1]) is None
    assert again.read('clean', 0, [2], same[:1]) is None


def test_a_file_that_was_cut_off_lacks_its_end(tmp_path):
    store = opened(tmp_path)
    store.write('clean', 0, [0, 6], inputs([0, 6]), logits(2))
    path = store.folder / 'clean_0000.rows'
    path.write_bytes(path.read_bytes()[:-4])
    again = opened(tmp_path)
    assert again.read('clean', 0, [0], inputs([0])) is not None
    assert again.read('clean', 0, [6], inputs([6])) is None


def test_the_logits_of_another_teacher_are_left_alone(tmp_path):
    opened(tmp_path).write('clean', 0, [0], inputs([0]), logits(1))
    store = LogitStore(tmp_path)
    assert store.open(dict(teacher='b', pruner='new'), 5, NUM_IMAGES, 2, ['clean']) == ['pruner', 'teacher']
    assert store.read('clean', 0, [0], inputs([0])) is None
    assert opened(tmp_path).read('clean', 0, [0], inputs([0])) is not None


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
    for view in ('clean', 'augmented'):
        for number in range(2):
            store.write(view, number, [0], inputs([0]), logits(1))
    assert store.bytes_needed == sum(path.stat().st_size for path in store.folder.glob('*.rows'))


def test_too_little_space_is_said_before_anything_is_written(tmp_path):
    store = LogitStore(tmp_path / 'store')
    with pytest.raises(OSError, match=r'the replay needs \d+\.\d GB .* give another folder, a smaller cycle, or top_k'):
        store.open({}, 1000, 10**13, 4, ['clean'])
    assert not [path for path in tmp_path.glob('**/*') if path.is_file()]


def write_own_images(folder):
    store = opened(folder, dtype='float32')
    own = [dist.get_rank(), dist.get_rank() + 2]
    store.write('clean', 0, own, inputs(own), logits(2, seed=dist.get_rank()))
    store.complete(0)
    return store.read('clean', 0, [0, 1, 2, 3], inputs([0, 1, 2, 3]))


def test_processes_fill_one_store(tmp_path):
    first, second = logits(2, seed=0), logits(2, seed=1)
    expected = torch.stack([first[0], second[0], first[1], second[1]])
    assert all(torch.equal(seen, expected) for seen in run_on_ranks(2, write_own_images, str(tmp_path)))
    assert json.loads(next(tmp_path.glob('*/store.json')).read_text())['complete_rounds'] == [0]


@pytest.mark.parametrize(
    ('fields', 'message'),
    [(dict(dtype='bf16'), r"one of \('float16', 'float32'\), got 'bf16'"), (dict(top_k=0), 'at least 1, .* got 0')],
)
def test_a_wrong_argument_is_refused(tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        LogitStore(tmp_path, **fields)


def test_top_k_of_all_classes_is_refused(tmp_path):
    with pytest.raises(ValueError, match='top_k of a replay must be below num_classes=5, got 5'):
        opened(tmp_path, top_k=5)
