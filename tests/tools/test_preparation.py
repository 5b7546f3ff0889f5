"""The prepare scripts make a complete data set from archives, or give one clear error and write nothing."""

import io
import runpy
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import converters
import pytest
import toolbox
from converters import CONTENTS, contents, make_mini, prepare
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from r2kd_mm.published import PUBLISHED

every_set = pytest.mark.parametrize('name', sorted(PUBLISHED))
MINI = ('--contents', *CONTENTS)


@pytest.fixture(scope='session')
def archives(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``archives(name)``: a folder with the archives of a miniature, to be read only."""

    @cache
    def make(name: str) -> Path:
        return make_mini(name, tmp_path_factory.mktemp('archives') / name, '--archive')

    return make


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A miniature CUB-200-2011, as it lies on the disk after unpacking."""
    return make_mini('cub200', tmp_path / 'unpacked')


def refused(capsys: pytest.CaptureFixture, name: str, source: Path, dst: Path, *options: str) -> str:
    """The message of a preparation that fails, with status 1 and without anything left behind."""
    before = contents(dst) if dst.exists() else None
    with pytest.raises(SystemExit) as stop:
        prepare(name, source, dst, *options)
    assert stop.value.code == 1
    assert (contents(dst) if dst.exists() else None) == before
    assert not dst.with_name(f'{dst.name}.partial').exists()
    message = capsys.readouterr().err
    assert message.startswith('error: ')
    assert 'Traceback' not in message
    return message


def tar(path: Path, *members: tuple[str, str | bytes]) -> Path:
    """A tar file; a member is a name and its bytes, or a name and the target of a symbolic link."""
    with tarfile.open(path, 'w') as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


@every_set
def test_archives_become_batches_of_the_config(name, archives, tmp_path):
    root = prepare(name, archives(name), tmp_path / name, *MINI)
    cfg = Config.fromfile(toolbox.ROOT / f'configs/_base_/datasets/{name}.py')
    side = {'cifar100': 32, 'tiny_imagenet': 64}.get(name, 224)
    with DefaultScope.overwrite_default_scope('r2kd_mm'):
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.update(batch_size=8, num_workers=0, persistent_workers=False, pin_memory=False)
            loader.dataset.data_root = str(root)
            batch = next(iter(Runner.build_dataloader(loader, seed=0)))
            assert batch['inputs'].shape == (8, 3, side, side)
            assert {int(sample.gt_label) for sample in batch['data_samples']} <= set(range(converters.CLASSES))


@every_set
def test_what_is_prepared_is_what_was_packed(name, archives, tmp_path):
    layout = ('--layout', 'annotations') if name == 'imagenet' else ()
    original = contents(make_mini(name, tmp_path / 'unpacked', *layout))
    prepared = contents(prepare(name, archives(name), tmp_path / name, *MINI))
    if name == 'imagenet':  # names of the validation images are given again, and counted from 1
        original, prepared = (
            {path: data for path, data in files.items() if 'train' in path} for files in (original, prepared)
        )
        assert len(original) == 12
    prepared.pop('contents.json', None)
    assert prepared.items() <= original.items()
    left_out = {path for path in original.keys() - prepared.keys() if not path.startswith('test/')}
    assert {Path(path).name.partition('_')[2] or path for path in left_out} <= {
        'boxes.txt',
        'contents.json',
        'list.mat',
    }


@every_set
def test_a_prepared_folder_is_left_as_it_is(name, archives, tmp_path, capsys):
    root = prepare(name, archives(name), tmp_path / name, *MINI)
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    prepare(name, tmp_path / 'archives that are deleted', root, *MINI)
    assert f'holds {PUBLISHED[name].title} already' in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before


@every_set
def test_a_miniature_is_not_taken_for_the_published_set(name, archives, tmp_path, capsys):
    message = refused(capsys, name, archives(name), tmp_path / name)
    assert f'does not give the whole of {PUBLISHED[name].title}' in message
    if name != 'cifar100':  # whose sums are compared before the images are counted
        assert f'found 4 classes and 12 train images, expected {PUBLISHED[name].contents.classes} and' in message


@every_set
def test_a_missing_source_is_named_with_the_page_that_offers_it(name, tmp_path, capsys):
    message = refused(capsys, name, tmp_path / 'gone', tmp_path / name)
    assert f'there is no {tmp_path}/gone; get {PUBLISHED[name].archives[0]}' in message
    assert PUBLISHED[name].url in message


@every_set
def test_a_folder_of_other_things_is_refused(name, tmp_path, capsys):
    (tmp_path / 'downloads').mkdir()
    (tmp_path / 'downloads/thesis.tex').touch()
    message = refused(capsys, name, tmp_path / 'downloads', tmp_path / name)
    assert f'holds thesis.tex, but neither {PUBLISHED[name].archives[0]}' in message


@pytest.mark.parametrize(('name', 'archive', 'missing'), [
    ('stanford_dogs', 'images.tar', 'train_list.mat, test_list.mat'),
    ('mit67', 'indoorCVPR_09.tar', 'TrainImages.txt, TestImages.txt'),
    ('stanford40', 'Stanford40_ImageSplits.zip', 'JPEGImages'),
    ('imagenet', 'ILSVRC2012_img_train.tar', 'val, meta/meta.mat'),
])  # fmt: skip
def test_one_archive_of_several_is_not_enough(name, archive, missing, archives, tmp_path, capsys):
    message = refused(capsys, name, archives(name) / archive, tmp_path / name, *MINI)
    assert missing in message
    assert 'put them into one folder and name that' in message


def test_an_unpacked_folder_is_taken_too(unpacked, tmp_path):
    root = prepare('cub200', unpacked, tmp_path / 'cub200', *MINI)
    assert contents(root).keys() == contents(unpacked).keys()


def test_the_rearranged_layout_is_taken_too(tmp_path):
    source = make_mini('tiny_imagenet', tmp_path / 'mini', '--layout', 'folders', '--archive')
    root = prepare('tiny_imagenet', source / 'tiny-imagenet-200.zip', tmp_path / 'tiny', *MINI)
    assert len(list(root.glob('val/*/images/*.JPEG'))) == 8


def test_imagenet_validation_labels_follow_the_sorted_ids_not_the_numbers_of_the_kit(archives, tmp_path):
    root = prepare('imagenet', archives('imagenet'), tmp_path / 'imagenet', *MINI)
    assert (root / 'meta/ILSVRC2012_validation_ground_truth.txt').read_text().split() == list('44332211')
    labels = [line.split()[1] for line in (root / 'meta/val.txt').read_text().splitlines()]
    assert labels == list('00112233')
    original = make_mini('imagenet', tmp_path / 'mini')  # of the same seed, so of the same images
    assert (root / 'val/ILSVRC2012_val_00000003.JPEG').read_bytes() == (
        original / 'val/n00000001/n00000001_0.JPEG'
    ).read_bytes()


def test_an_imagenet_kit_of_other_images_is_refused(archives, tmp_path, capsys):
    source = Path(shutil.copytree(archives('imagenet'), tmp_path / 'source'))
    make_mini('imagenet', tmp_path / 'more', '--archive', '--val', '3')
    shutil.copy(tmp_path / 'more/ILSVRC2012_devkit_t12.tar.gz', source)
    message = refused(capsys, 'imagenet', source, tmp_path / 'dst', *MINI)
    assert 'found 8 validation images, but the kit labels 12' in message


def test_imagenet_without_a_class_of_the_kit_is_refused(archives, tmp_path, capsys):
    source = Path(shutil.copytree(archives('imagenet'), tmp_path / 'source'))
    make_mini('imagenet', tmp_path / 'fewer', '--archive', '--classes', '3')
    shutil.copy(tmp_path / 'fewer/ILSVRC2012_img_train.tar', source)
    message = refused(capsys, 'imagenet', source, tmp_path / 'dst', *MINI)
    assert 'the training images lack 1 classes of the kit, such as n00000003' in message


def test_an_interrupted_run_leaves_nothing_and_the_same_command_starts_again(archives, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        copied = []

        def interrupt(content, file):
            copied.append(file.write(content.read()))
            if len(copied) == 5:
                raise KeyboardInterrupt

        patch.setattr(shutil, 'copyfileobj', interrupt)
        message = refused(capsys, 'cub200', archives('cub200'), tmp_path / 'cub200', *MINI)
    assert len(copied) == 5
    assert f'interrupted; {tmp_path}/cub200 was not made, and the same command starts again' in message
    prepare('cub200', archives('cub200'), tmp_path / 'cub200', *MINI)


def test_what_a_killed_run_left_is_not_trusted(archives, tmp_path):
    (tmp_path / 'cub200.partial/images').mkdir(parents=True)
    (tmp_path / 'cub200.partial/images/half.jpg').write_bytes(b'half')
    root = prepare('cub200', archives('cub200'), tmp_path / 'cub200', *MINI)
    assert 'images/half.jpg' not in contents(root)
    assert not (tmp_path / 'cub200.partial').exists()


def test_an_existing_folder_with_other_things_is_left_alone(archives, tmp_path, capsys):
    (tmp_path / 'thesis.tex').write_text('years of work')
    message = refused(capsys, 'cub200', archives('cub200'), tmp_path, *MINI)
    assert f'{tmp_path} exists and is not the whole of CUB-200-2011' in message


def test_half_a_prepared_folder_is_not_taken_for_done(archives, tmp_path, capsys):
    root = prepare('cub200', archives('cub200'), tmp_path / 'cub200', *MINI)
    next(root.glob('images/*/*.jpg')).unlink()
    assert 'images are missing, such as' in refused(capsys, 'cub200', archives('cub200'), root, *MINI)


def test_a_prepared_miniature_is_not_taken_for_the_published_set(archives, tmp_path, capsys):
    root = prepare('cub200', archives('cub200'), tmp_path / 'cub200', *MINI)
    message = refused(capsys, 'cub200', archives('cub200'), root)
    assert 'it is made for 4 classes, 12 train images and 8 test images, not for 200 classes' in message


@pytest.mark.parametrize('content', [b'', b'<html>404 Not Found</html>'])
def test_what_is_no_archive_is_refused(tmp_path, capsys, content):
    (tmp_path / 'CUB_200_2011.tgz').write_bytes(content)
    message = refused(capsys, 'cub200', tmp_path / 'CUB_200_2011.tgz', tmp_path / 'cub200')
    assert 'CUB_200_2011.tgz is broken, or no zip or tar archive' in message


@pytest.mark.parametrize('name', ['cub200', 'tiny_imagenet', 'imagenet'])  # tar.gz, zip, tar of tars
@pytest.mark.parametrize('kept', [0.3, 0.6, 0.9])
def test_half_an_archive_is_refused(name, kept, archives, tmp_path, capsys):
    source = Path(shutil.copytree(archives(name), tmp_path / 'source'))
    path = source / PUBLISHED[name].archives[0]
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    message = refused(capsys, name, source, tmp_path / 'dst', *MINI)
    assert 'download it again' in message or 'download again what is incomplete' in message


@pytest.mark.parametrize('member', ['../../evil', 'images/../../../evil', '/tmp/evil', 'images\\..\\..\\evil'])
@pytest.mark.parametrize('kind', ['tar', 'tar in tar', 'zip'])
def test_an_archive_that_leads_out_of_the_folder_is_refused(member, kind, tmp_path, capsys):
    path = tmp_path / 'in' / 'CUB_200_2011.tgz'
    path.parent.mkdir()
    if kind == 'zip':
        with zipfile.ZipFile(path, 'w') as archive:
            archive.writestr(zipfile.ZipInfo(member), b'evil')
    else:
        tar(path, (member, b'evil'))
    if kind == 'tar in tar':
        inner = path.read_bytes()
        tar(path, ('images/inner.tar', inner))
    message = refused(capsys, 'cub200', path, tmp_path / 'a/b/cub200')
    assert f'was not unpacked: the path {member!r} could lead out of the folder' in message
    assert not list(tmp_path.rglob('evil'))


def test_a_link_is_refused_where_a_file_is_needed(tmp_path, capsys):
    (tmp_path / 'secret').write_text('secret')
    path = tar(tmp_path / 'cub.tar', ('CUB_200_2011/images', '../..'), ('CUB_200_2011/images/secret', b'overwritten'))
    message = refused(capsys, 'cub200', path, tmp_path / 'cub200')
    assert "'CUB_200_2011/images' is a link or a device" in message
    assert (tmp_path / 'secret').read_text() == 'secret'


def test_a_link_in_a_zip_file_is_refused(tmp_path, capsys):
    info = zipfile.ZipInfo('CUB_200_2011/images.txt')
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / 'cub.zip', 'w') as archive:
        archive.writestr(info, '/etc/passwd')
    assert "'CUB_200_2011/images.txt' is a link" in refused(capsys, 'cub200', tmp_path / 'cub.zip', tmp_path / 'cub200')


def test_what_macos_adds_and_what_is_not_needed_is_left_out(unpacked, tmp_path):
    path = tmp_path / 'cub.tar'
    files = [(f'./CUB_200_2011/{name}', content) for name, content in contents(unpacked).items()]
    tar(
        path,
        ('./._CUB_200_2011', b'macOS'),
        ('./CUB_200_2011/images/._001', b'macOS'),
        ('attributes.txt', b'1'),
        *files,
        ('CUB_200_2011/README', '/nowhere'),
    )
    assert contents(prepare('cub200', path, tmp_path / 'cub200', *MINI)).keys() == contents(unpacked).keys()


@every_set
def test_each_script_tells_what_it_takes(name, capsys, monkeypatch):
    script = f'prepare_{name}.py'
    monkeypatch.setattr('sys.argv', [script, '--help'])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(toolbox.ROOT / 'tools/dataset_converters' / script), run_name='__main__')
    assert stop.value.code == 0
    words = capsys.readouterr().out.split()
    assert {f'data/{name}', PUBLISHED[name].archives[0]} <= {word.strip(',') for word in words}
