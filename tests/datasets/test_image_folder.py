"""ImageFolder reads ImageNet's two folder layouts, and names the fault of a folder that it cannot read."""

import logging
from pathlib import Path

import pytest
import toolbox
from mmengine.dist import get_rank
from PIL import Image
from ranks import run_on_ranks

from r2kd_mm.datasets import ImageFolder, LoadImageFromFile, image_folder
from r2kd_mm.datasets.image_folder import EXTENSIONS


def write_images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(root / name, 'JPEG')
    return root


def labels(dataset: ImageFolder) -> dict[str, int]:
    """File name to label."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return {Path(info['img_path']).name: info['gt_label'] for info in infos}


def test_labels_follow_the_sorted_class_folders(tmp_path):
    write_images(tmp_path, 'train/n2/b.JPEG', 'train/n1/a.JPEG', 'train/n1/deeper/c.jpg', 'train/n3/d.png')
    dataset = ImageFolder(str(tmp_path), 'train')
    assert labels(dataset) == {'a.JPEG': 0, 'c.jpg': 0, 'b.JPEG': 1, 'd.png': 2}
    assert dataset.metainfo['classes'] == ('n1', 'n2', 'n3')


def test_a_hidden_folder_is_no_class(tmp_path):
    write_images(tmp_path, 'train/.trash/x.JPEG', 'train/n1/a.JPEG', 'train/n2/b.JPEG')
    (tmp_path / 'train' / '.ipynb_checkpoints').mkdir()
    dataset = ImageFolder(str(tmp_path), 'train')
    assert labels(dataset) == {'a.JPEG': 0, 'b.JPEG': 1}
    assert dataset.metainfo['classes'] == ('n1', 'n2')


def test_a_class_missing_from_validation_shifts_no_label(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'train/n2/b.JPEG', 'train/n3/c.JPEG', 'val/n3/x.JPEG')
    dataset = ImageFolder(str(tmp_path), 'val')
    assert labels(dataset) == {'x.JPEG': 2}
    assert len(dataset.metainfo['classes']) == 3


def test_a_split_without_training_folders_counts_its_own_classes(tmp_path):
    write_images(tmp_path, 'val/n1/a.JPEG', 'val/n2/b.JPEG')
    assert labels(ImageFolder(str(tmp_path), 'val')) == {'a.JPEG': 0, 'b.JPEG': 1}


def test_an_annotation_file_gives_the_labels_of_flat_images(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'train/n2/b.JPEG', 'val/x.JPEG', 'val/y z.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/val.txt').write_text('x.JPEG 1\ny z.JPEG 0\n')
    dataset = ImageFolder(str(tmp_path), 'val')
    assert labels(dataset) == {'x.JPEG': 1, 'y z.JPEG': 0}
    assert dataset.metainfo['classes'] == ('n1', 'n2')


@pytest.mark.parametrize('split', ['train', 'val'])
def test_a_class_is_called_as_the_folder_that_the_annotations_give_its_label_to(split, tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'train/n2/b.JPEG', 'val/x.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text('n1/a.JPEG 1\nn2/b.JPEG 0\n')  # not in the order of their names
    (tmp_path / 'meta/val.txt').write_text('x.JPEG 1\n')
    assert ImageFolder(str(tmp_path), split).metainfo['classes'] == ('n2', 'n1')


def test_classes_that_the_folders_would_name_wrongly_have_numbers(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'train/n1/c.JPEG', 'train/n2/b.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text('n1/a.JPEG 1\nn1/c.JPEG 0\nn2/b.JPEG 0\n')
    assert ImageFolder(str(tmp_path), 'train').metainfo['classes'] == ('0', '1')


def test_a_file_names_the_classes_of_the_annotations(tmp_path):
    write_images(tmp_path, 'train/one/a.JPEG', 'train/one/b.JPEG', 'val/c.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta' / 'train.txt').write_text('one/a.JPEG 1\none/b.JPEG 0\n')
    (tmp_path / 'meta' / 'val.txt').write_text('c.JPEG 1\n')
    (tmp_path / 'meta' / 'classes.txt').write_text('a dog\ncat\n')
    for split in ('train', 'val'):
        assert ImageFolder(str(tmp_path), split).metainfo['classes'] == ('a dog', 'cat')
    (tmp_path / 'meta' / 'classes.txt').write_text('cat\n')
    with pytest.raises(ValueError, match='must name the labels 0 to 1, .* got 1 different names in 1 lines'):
        ImageFolder(str(tmp_path), 'train')


def test_annotations_alone_count_the_classes_by_the_highest_label(tmp_path):
    write_images(tmp_path, 'train/x.JPEG', 'train/y.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text('x.JPEG 4\ny.JPEG 0\n')
    assert ImageFolder(str(tmp_path), 'train').metainfo['classes'] == ('0', '1', '2', '3', '4')


def test_a_class_that_the_annotations_of_the_validation_lack_is_counted(tmp_path):
    write_images(tmp_path, 'train/x.JPEG', 'val/y.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_text('x.JPEG 2\n')
    (tmp_path / 'meta/val.txt').write_text('y.JPEG 0\n')
    assert ImageFolder(str(tmp_path), 'val').metainfo['classes'] == ('0', '1', '2')


def test_annotations_written_on_windows_are_read(tmp_path):
    write_images(tmp_path, 'train/x.JPEG', 'train/y.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/train.txt').write_bytes('x.JPEG 1\r\ny.JPEG 0\r\n'.encode('utf-8-sig'))
    assert labels(ImageFolder(str(tmp_path), 'train')) == {'x.JPEG': 1, 'y.JPEG': 0}


def test_a_missing_folder_is_named_with_the_layout_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no data folder '{tmp_path}/train': expected <data_root>/<split>/"):
        ImageFolder(str(tmp_path), 'train')


@pytest.mark.parametrize('content', ['train', 'train/n1'])
def test_a_folder_without_images_is_refused(tmp_path, content):
    (tmp_path / content).mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"no image in the data folder '{tmp_path}/train': expected"):
        ImageFolder(str(tmp_path), 'train')


@pytest.mark.parametrize(
    ('files', 'found'),
    [
        (['c.gif', 'deeper/d.heic', 'README'], 'only files that end in .gif, .heic, README'),
        (['.DS_Store'], 'it is empty'),
    ],
)
def test_a_training_class_without_an_image_is_refused(tmp_path, files, found):
    write_images(tmp_path, 'train/n1/a.JPEG', *(f'train/n2/{name}' for name in files))
    with pytest.raises(ValueError, match=f"no image in the class folder '{tmp_path}/train/n2', {found}: expected"):
        ImageFolder(str(tmp_path), 'train')


def test_a_validation_class_may_be_empty_but_not_of_other_files(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'train/n2/b.JPEG', 'val/n1/.hidden', 'val/n2/x.JPEG')
    assert labels(ImageFolder(str(tmp_path), 'val')) == {'x.JPEG': 1}
    write_images(tmp_path, 'val/n1/y.heic')
    with pytest.raises(ValueError, match=f"no image in the class folder '{tmp_path}/val/n1', only files that end in"):
        ImageFolder(str(tmp_path), 'val')


def test_ignored_files_next_to_images_are_counted(tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(image_folder, 'print_log', lambda message, *_, level: warnings.append((level, message)))
    write_images(tmp_path, 'train/n1/a.JPEG', 'train/n2/b.png', 'train/n2/.hidden')
    assert len(ImageFolder(str(tmp_path), 'train')) == 2
    assert warnings == []
    write_images(tmp_path, 'train/n1/c.heic', 'train/n2/d.heic', 'train/n2/README')
    assert len(ImageFolder(str(tmp_path), 'train')) == 2
    ((level, message),) = warnings
    assert level == logging.WARNING
    assert message.startswith(f"3 files in '{tmp_path}/train' are passed over")
    assert message.endswith(': 2 .heic, 1 README')


@pytest.mark.parametrize('ending', EXTENSIONS)
def test_every_listed_ending_can_be_read(tmp_path, ending):
    (tmp_path / 'train/n1').mkdir(parents=True)
    Image.new('L', (4, 4), 200).save(tmp_path / f'train/n1/a{ending}')
    (sample,) = ImageFolder(str(tmp_path), 'train', [LoadImageFromFile()])
    assert abs(sample['img'].astype(int) - 200).max() < 5


def test_a_validation_class_that_was_not_trained_is_refused(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'val/n1/b.JPEG', 'val/n9/c.JPEG')
    with pytest.raises(ValueError, match="1 class folders that the training split lacks, such as 'n9'"):
        ImageFolder(str(tmp_path), 'val')


@pytest.mark.parametrize(
    ('line', 'error', 'message'),
    [
        ('x.JPEG', ValueError, "line 1 of .*val.txt' must read 'name.JPEG label', got 'x.JPEG'"),
        ('x.JPEG cat', ValueError, "got 'x.JPEG cat'"),
        ('gone.JPEG 0', FileNotFoundError, "names 'gone.JPEG', which is not in .*val'"),
    ],
)
def test_a_wrong_annotation_file_is_refused(tmp_path, line, error, message):
    write_images(tmp_path, 'val/x.JPEG')
    (tmp_path / 'meta').mkdir()
    (tmp_path / 'meta/val.txt').write_text(f'{line}\n')
    with pytest.raises(error, match=message):
        ImageFolder(str(tmp_path), 'val')


class ListedByRank0(ImageFolder):
    """Fails where a rank other than 0 lists the folder, and on rank 0 where it is told to."""

    fault: Exception | None = None

    def load_data_list(self) -> list[dict]:
        assert get_rank() == 0
        if self.fault is not None:
            raise self.fault
        return super().load_data_list()


def read_on_rank(roots: list[str], fault: Exception | None = None) -> dict:
    """Return what this rank knows after it built the data set, or the error."""
    ListedByRank0.fault = fault
    try:
        dataset = ListedByRank0(roots[get_rank()], 'train', indices=3)
    except Exception as error:
        return dict(error=f'{type(error).__name__}: {error}')
    return dict(labels=labels(dataset), classes=dataset.metainfo['classes'])


@pytest.mark.slow
def test_rank_0_lists_the_folder_for_all(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG', 'train/n2/b.JPEG', 'train/n2/c.JPEG', 'train/n2/d.JPEG')
    first, second = run_on_ranks(2, read_on_rank, [str(tmp_path)] * 2)
    assert first == second == dict(labels={'a.JPEG': 0, 'b.JPEG': 1, 'c.JPEG': 1}, classes=('n1', 'n2'))


@pytest.mark.parametrize(
    ('fault', 'expected'),
    toolbox.quick_first(
        [
            (None, "ValueError: there is no image in the data folder '{folder}': expected"),
            (KeyError('n1'), "RuntimeError: rank 0 cannot list '{folder}': KeyError('n1')"),
        ]
    ),
)
def test_every_rank_raises_the_error_of_rank_0(tmp_path, fault, expected):
    (tmp_path / 'train').mkdir()
    first, second = run_on_ranks(2, read_on_rank, [str(tmp_path)] * 2, fault)
    assert first == second
    assert first['error'].startswith(expected.format(folder=tmp_path / 'train'))


@pytest.mark.slow
def test_a_machine_without_the_folder_says_so(tmp_path):
    write_images(tmp_path / 'here', 'train/n1/a.JPEG')
    first, second = run_on_ranks(2, read_on_rank, [str(tmp_path / 'here'), str(tmp_path / 'there')])
    assert first['labels'] == {'a.JPEG': 0}
    assert second['error'].startswith(f"FileNotFoundError: there is no data folder '{tmp_path}/there/train'")


def read_lazily_on_rank_0(root: str) -> int:
    dataset = ImageFolder(root, 'train', lazy_init=True)
    return len(dataset) if get_rank() == 0 else 0


@pytest.mark.slow
def test_a_lazy_data_set_waits_for_no_other_rank(tmp_path):
    write_images(tmp_path, 'train/n1/a.JPEG')
    assert run_on_ranks(2, read_lazily_on_rank_0, str(tmp_path)) == [1, 0]
