"""Networks are found, built and run on an image before anything is trained; each stage gets a config file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from PIL import Image
from torch.nn import functional as F

from r2kd_mm.classifiers import classifier_logits
from r2kd_mm.photos import distill
from r2kd_mm.photos.folder import Photos
from r2kd_mm.photos.layout import read_unlabelled
from r2kd_mm.photos.options import Options
from r2kd_mm.photos.plan import ALONE, DISTILLED, TEACHER, check_plan, make_plan
from r2kd_mm.photos.split import write_unlabelled
from r2kd_mm.photos.stages import PHOTOS, RECORD, _check_photos, _check_record
from r2kd_mm.photos.summary import describe
from r2kd_mm.registry import DATASETS, MODELS
from r2kd_mm.runs.result import Result, save_result
from r2kd_mm.teachers.build import RECORD_KEY
from r2kd_mm.zoo import build_classifier

NONE = dict(teacher_init='none', student_init='none')
CLASSES = ('cat', 'dog', 'eel')


@pytest.fixture
def photos(tmp_path):
    return Photos(tmp_path / 'photos', 'train', 'val', CLASSES, dict.fromkeys(CLASSES, (8, 2)))


def plan(tmp_path, photos, **changes):
    fields = dict(dict(teacher='r2kd/cifar/resnet14', student='r2kd/cifar/resnet8', **NONE), **changes)
    return make_plan(Options(data=photos.root, out=tmp_path / 'out', **fields), photos)


def test_each_stage_has_a_config_and_each_seed_a_run(tmp_path, photos):
    found = plan(tmp_path, photos, epochs=4, seeds=2)
    assert found.teacher_runs[0].folder == tmp_path / 'out' / 'runs' / 'teacher' / 'seed_0'
    assert [str(run) for run in found.student_runs] == [
        'student_alone, seed 0', 'student_distilled, seed 0', 'student_alone, seed 1', 'student_distilled, seed 1',
    ]  # fmt: skip
    cfg = Config.fromfile(found.distilled.method.config)
    assert cfg.model.teacher_ckpt == str(found.teacher_runs[0].folder / 'epoch_4.pth')
    assert cfg.model.teacher.network.num_classes == cfg.model.architecture.num_classes == 3
    costs = check_plan(found)
    assert costs[TEACHER].parameters > costs[DISTILLED].parameters > 1000


def test_without_a_baseline_the_student_is_only_distilled(tmp_path, photos):
    assert [run.method.name for run in plan(tmp_path, photos, baseline=False).student_runs] == [DISTILLED]


def test_the_method_is_the_one_that_was_measured_best_whatever_the_number_of_classes(tmp_path, photos):
    two = Photos(photos.root, 'train', 'val', CLASSES[:2], {})
    assert plan(tmp_path, two).method == 'dist_light'
    assert plan(tmp_path, photos).method == 'dist_light'
    assert plan(tmp_path, photos, method='r2kd').method == 'r2kd'


class TestPhotosWithoutLabels:
    @pytest.fixture
    def photos(self, photos, tmp_path):
        (tmp_path / 'more').mkdir()
        for name in ('b', 'a'):
            Image.new('RGB', (8, 8)).save(tmp_path / 'more' / f'{name}.png')
        free = read_unlabelled(tmp_path / 'more')
        write_unlabelled(tmp_path / 'out' / 'data', free)
        return replace(photos, unlabelled=free)

    def test_join_the_distillation_alone(self, tmp_path, photos):
        found = plan(tmp_path, photos, unlabelled_share=0.25, batch_size=8)
        loaders = {
            run.method.name: Config.fromfile(run.method.config).train_dataloader
            for run in (*found.teacher_runs, *found.student_runs)
        }
        assert {name: loader.dataset.type for name, loader in loaders.items()} == {
            TEACHER: 'ImageFolder', ALONE: 'ImageFolder', DISTILLED: 'WithUnlabelled',
        }  # fmt: skip
        loader = loaders[DISTILLED]
        assert loader.sampler == dict(type='UnlabelledShareSampler', batch_size=8, share=0.25)
        assert loader.dataset.dataset == loaders[ALONE].dataset
        with DefaultScope.overwrite_default_scope('r2kd_mm'):
            (free,) = (DATASETS.build(each) for each in loader.dataset.unlabelled)
        assert [free.get_data_info(index)['img_path'] for index in range(len(free))] == [
            str(tmp_path / 'more' / name) for name in ('a.png', 'b.png')
        ]
        assert free[0]['inputs'].shape == (3, 32, 32)
        assert '| unlabelled | 2 more for the distillation, 2 of the 8 in each batch' in describe(found).replace(
            '  ', ''
        )

    def test_are_not_replayed(self, tmp_path, photos):
        with pytest.raises(ValueError, match='--replay needs images that come again in every round, and photos'):
            plan(tmp_path, photos, replay=2)

    def test_a_method_that_needs_labels_is_refused(self, tmp_path, photos):
        with pytest.raises(ValueError, match=r'--method dkd needs labels \(loss_\w+\), and there are photos without'):
            plan(tmp_path, photos, method='dkd')


class TestSeveralTeachers:
    """One is fine-tuned, one has a checkpoint, and one is a file; each has images of its own."""

    OWN = dict(
        teacher=['r2kd/cifar/resnet14', 'r2kd/cifar/resnet20', 'FILE'],
        teacher_image_size=[40, None, 24],
        teacher_mean=[None, (100.0, 110.0, 120.0), (1.0, 2.0, 3.0)],
        teacher_std=[None, (50.0, 60.0, 70.0), (4.0, 5.0, 6.0)],
    )

    @pytest.fixture
    def asked(self, tmp_path):
        torch.manual_seed(0)
        second = build_classifier('cifar/resnet20', 5)
        torch.save(second.state_dict(), tmp_path / 'second.pth')
        network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 3))
        torch.jit.save(torch.jit.script(network), tmp_path / 'third.pt')
        (tmp_path / 'names.txt').write_text('eel\nant\ncat\nowl\ndog\n')
        self.networks = dict(teacher_2=second.eval(), teacher_3=network)
        return dict(
            self.OWN,
            teacher=[*self.OWN['teacher'][:2], str(tmp_path / 'third.pt')],
            teacher_ckpt=['none', str(tmp_path / 'second.pth'), 'none'],
            teacher_classes=['none', str(tmp_path / 'names.txt'), 'none'],
        )

    def test_each_is_a_member_of_the_ensemble_that_the_config_holds(self, tmp_path, photos, asked):
        found = plan(tmp_path, photos, epochs=4, **asked)
        assert [str(run) for run in found.teacher_runs] == ['teacher, seed 0']
        model = Config.fromfile(found.distilled.method.config).model
        assert (model.teacher.type, model.teacher_ckpt) == ('TeacherEnsemble', None)
        members = model.teacher.members
        assert list(members) == ['teacher', 'teacher_2', 'teacher_3']
        assert members.teacher.teacher_ckpt == str(found.teacher_runs[0].folder / 'epoch_4.pth')
        assert [member.teacher['size'] for member in members.values()] == [40, 32, 24]
        costs = check_plan(found)
        assert costs['teacher'].parameters < costs['teacher_2'].parameters
        assert costs['teacher_3'].parameters == 12
        described = ' '.join(describe(found).split())
        assert '| teacher | r2kd/cifar/resnet14, weights: none' in described
        assert f'| teacher 2 | r2kd/cifar/resnet20, weights: {tmp_path}/second.pth |' in described
        assert '| teacher 3 gets | 24 x 24 pixels, bilinear, RGB, mean 1, 2, 3, std 4, 5, 6' in described
        assert '| together | the mean of the logits of the 3 teachers' in described

    @torch.no_grad()
    def test_each_gives_the_logits_of_resize_normalise_and_model_by_hand(self, tmp_path, photos, asked):
        found = plan(tmp_path, photos, **asked)
        first = build_classifier('cifar/resnet14', 3).eval()
        checkpoint = found.teacher_runs[0].folder / 'epoch_60.pth'
        checkpoint.parent.mkdir(parents=True)
        torch.save(first.state_dict(), checkpoint)
        cfg = Config.fromfile(found.distilled.method.config)
        with DefaultScope.overwrite_default_scope('r2kd_mm'):
            distiller = MODELS.build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
        bgr = torch.randint(256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1))  # as OpenCV reads them
        view = distiller.data_preprocessor(dict(inputs=bgr.to(torch.uint8)))['inputs']

        imagenet = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # what the zoo states
        networks = dict(teacher=first, **self.networks)
        normalised = [imagenet, *zip(asked['teacher_mean'][1:], asked['teacher_std'][1:])]
        total = 0
        for (name, network), size, (mean, std) in zip(networks.items(), (40, 32, 24), normalised):
            resized = F.interpolate(bgr.flip(1).float(), size, mode='bilinear', antialias=True)
            images = (resized - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
            expected = classifier_logits(network, images)
            if name == 'teacher_2':
                expected = expected[:, [2, 4, 0]]  # cat, dog, eel among its names
            given = distiller.ask(name, view)
            assert (given - expected).abs().max() <= 1e-5 * expected.abs().max(), name
            total = total + expected / 3
        targets = distiller.step.targets({'clean': view}, [DataSample()] * 4)['clean']
        assert (targets - total).abs().max() <= 1e-5 * total.abs().max()

    def test_logits_can_be_replayed(self, tmp_path, photos, asked):
        cfg = Config.fromfile(plan(tmp_path, photos, replay=3, **asked).distilled.method.config)
        assert (cfg.model.replay.folder, cfg.train_cfg.cycle) == (str(tmp_path / 'out' / 'teacher_logits'), 3)
        assert [hook.type for hook in cfg.custom_hooks][-2:] == ['ReplayHook', 'TeacherCheckHook']

    @pytest.mark.parametrize(
        ('changes', 'message'),
        [
            (dict(method='r2kd_light'), '--method r2kd_light learns from one teacher .*, got 3 teachers'),
            (dict(teacher_classes=['none'] * 3), r'does not fit this .*'),
            (dict(teacher_ckpt=['none'] * 3), '--teacher-classes names the classes of a trained teacher'),
            (dict(teacher_mean=[None] * 3, teacher_std=[None] * 3), r'third\.pt does not say how its images are'),
        ],
    )  # fmt: skip
    def test_a_fault_of_one_is_refused(self, tmp_path, photos, asked, changes, message):
        with pytest.raises(ValueError, match=message):
            check_plan(plan(tmp_path, photos, **{**asked, **changes}))

    def test_other_classes_of_one_are_refused(self, tmp_path, photos, asked):
        meta = dict(dataset_meta=dict(classes=('cat', 'eel', 'dog')))
        other = build_classifier('cifar/resnet20', 3)
        torch.save(dict(state_dict=other.state_dict(), meta=meta), tmp_path / 'second.pth')
        with pytest.raises(ValueError, match=r"--teacher-ckpt '.*second\.pth' and the photos do not have the same"):
            check_plan(plan(tmp_path, photos, **{**asked, 'teacher_classes': ['none'] * 3}))


class TestATeacherInAFile:
    @pytest.fixture
    def folder(self, tmp_path):
        """An exported student of four classes."""
        network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 4))
        (tmp_path / 'export').mkdir()
        torch.jit.save(torch.jit.script(network), tmp_path / 'export' / 'model.pt')
        prepared = dict(channel_order='RGB', mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], transforms=[])
        stated = dict(
            format='torchscript', input=dict(shape=['N', 3, 40, 40]), preprocessing=prepared,
            classes=['eel', 'ant', 'cat', 'dog'],
        )  # fmt: skip
        (tmp_path / 'export' / 'export.json').write_text(json.dumps(stated))
        return tmp_path / 'export'

    def test_of_an_export_needs_nothing_else(self, tmp_path, photos, folder):
        found = plan(tmp_path, photos, teacher=str(folder))
        assert not found.teacher_runs
        cost = check_plan(found)[TEACHER]
        assert (cost.parameters, cost.flops) == (16, None)
        model = Config.fromfile(found.distilled.method.config).model
        assert model.teacher_ckpt is None
        assert (model.teacher.size, model.teacher.mean) == (40, [1.0, 2.0, 3.0])
        assert MODELS.build(model.teacher)._columns.tolist() == [2, 3, 0]
        described = describe(found)
        assert 'export, weights: in the file' in described
        assert 'runs code of yours' in described

    def test_of_torchscript_alone_needs_its_normalisation(self, tmp_path, photos, folder):
        alone = (folder / 'model.pt').rename(tmp_path / 'model.pt')
        with pytest.raises(
            ValueError, match=r'model\.pt does not say how its images are normalised; give --teacher-mean'
        ):
            plan(tmp_path, photos, teacher=str(alone))
        (tmp_path / 'names.txt').write_text('eel\nant\ncat\ndog\n')
        given = dict(teacher=str(alone), teacher_mean=[1, 2, 3], teacher_std=[4, 5, 6], teacher_image_size=24)
        found = plan(tmp_path, photos, **given, teacher_classes=str(tmp_path / 'names.txt'))
        check_plan(found)
        teacher = Config.fromfile(found.distilled.method.config).model.teacher
        assert (teacher.size, teacher.mean, teacher.std) == (24, [1, 2, 3], [4, 5, 6])
        with pytest.raises(ValueError, match='gives 4 logits for 3 classes; name them all by --teacher-classes'):
            check_plan(plan(tmp_path, photos, **given))

    def test_of_one_batch_size_is_refused(self, tmp_path, photos, folder):
        class OneImage(torch.nn.Module):
            def forward(self, images):
                return images.mean((2, 3)).repeat(1, 2)[:1, :4]

        torch.jit.save(torch.jit.trace(OneImage(), torch.zeros(1, 3, 40, 40)), folder / 'model.pt')
        with pytest.raises(ValueError, match='gives 1 rows of logits for 2 images, as a file that was traced for one'):
            check_plan(plan(tmp_path, photos, teacher=str(folder)))

    def test_cannot_be_a_student_and_takes_no_other_weights(self, tmp_path, photos, folder):
        with pytest.raises(ValueError, match='is a trained file, which can only teach'):
            plan(tmp_path, photos, student=str(folder))
        (tmp_path / 'x.pth').touch()
        with pytest.raises(ValueError, match='holds its weights; leave --teacher-ckpt out'):
            plan(tmp_path, photos, teacher=str(folder), teacher_ckpt=str(tmp_path / 'x.pth'))
        with pytest.raises(ValueError, match='it needs --teacher-ckpt, or a file as the --teacher'):
            plan(tmp_path, photos, teacher_classes='names.txt')


class TestOfATrainedTeacher:
    @pytest.fixture
    def checkpoint(self, tmp_path):
        network = build_classifier('cifar/resnet14', 5)
        meta = dict(dataset_meta=dict(classes=('ant', 'bee', 'cat', 'dog', 'eel')))
        torch.save(dict(state_dict=network.state_dict(), meta=meta), tmp_path / 'teacher.pth')
        return str(tmp_path / 'teacher.pth')

    def test_its_classes_are_picked_by_name(self, tmp_path, photos, checkpoint):
        (tmp_path / 'names.txt').write_text('ant\nbee\ncat\ndog\neel\n')
        found = plan(tmp_path, photos, teacher_ckpt=checkpoint, teacher_classes=str(tmp_path / 'names.txt'))
        assert not found.teacher_runs
        check_plan(found)
        teacher = MODELS.build(Config.fromfile(found.distilled.method.config).model.teacher)
        assert teacher._columns.tolist() == [2, 3, 4]

    def test_weights_trained_on_other_inputs_are_refused(self, tmp_path, photos):
        meta = {RECORD_KEY: dict(normalisation=dict(mean=[1.0] * 3, std=[2.0] * 3, to_rgb=True))}
        path = tmp_path / 'teacher.pth'
        torch.save(dict(state_dict=build_classifier('cifar/resnet14', 3).state_dict(), meta=meta), path)
        with pytest.raises(ValueError, match='the teacher was trained on images normalised with'):
            check_plan(plan(tmp_path, photos, teacher_ckpt=str(path)))

    def test_weights_of_other_classes_are_refused(self, tmp_path, photos, checkpoint):
        with pytest.raises(ValueError, match=r'does not fit .* of shape|size mismatch'):
            check_plan(plan(tmp_path, photos, teacher_ckpt=checkpoint))

    def test_a_missing_file_is_named(self, tmp_path, photos):
        with pytest.raises(FileNotFoundError, match='--teacher-ckpt: there is no file'):
            plan(tmp_path, photos, teacher_ckpt=str(tmp_path / 'nowhere.pth'))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(teacher='r2kd/cifar/resnet15'), 'no network r2kd/cifar/resnet15; did you mean'),
        (dict(student_init='published'), 'no weights of .* are published'),
        (dict(student='timm/test_vit', image_size=161), 'timm/test_vit does not take images of 161 x 161 pixels'),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(tmp_path, photos, changes, message):
    pytest.importorskip('timm')
    with pytest.raises(ValueError, match=message):
        check_plan(plan(tmp_path, photos, **changes))


def test_a_vit_of_timm_takes_another_size(tmp_path, photos):
    pytest.importorskip('timm')
    found = plan(tmp_path, photos, student='timm/test_vit', image_size=64)
    check_plan(found)
    assert Config.fromfile(found.distilled.method.config).model.architecture.img_size == 64


def test_a_disk_that_is_too_small_is_refused(tmp_path, photos, monkeypatch):
    usage = type('Usage', (), dict(free=1000))
    monkeypatch.setattr('r2kd_mm.photos.plan.shutil.disk_usage', lambda path: usage)
    with pytest.raises(ValueError, match=r'0\.0 GB free, and the checkpoints and exports need about'):
        check_plan(plan(tmp_path, photos))
    found = plan(tmp_path, photos)
    for run in (*found.teacher_runs, *found.student_runs):
        save_result(run, Result([1], [50.0], {}, 1.0))
    check_plan(found)  # nothing more will be written


def test_an_error_without_a_message_is_named_by_its_type(tmp_path, photos, monkeypatch):
    def fail(*args):
        raise AssertionError

    monkeypatch.setattr('r2kd_mm.photos.sides.classifier_logits', fail)
    with pytest.raises(ValueError, match='does not take images of 32 x 32 pixels: AssertionError; give'):
        check_plan(plan(tmp_path, photos))


def test_an_unknown_network_is_named_before_the_photos_are_decoded(tmp_path):
    for name in ('red', 'blue'):
        for split in ('train', 'val'):
            (tmp_path / 'photos' / split / name).mkdir(parents=True)
            (tmp_path / 'photos' / split / name / 'broken.png').write_bytes(f'{split} {name}'.encode())
    asked = (tmp_path / 'photos', 'r2kd/cifar/resnet14')
    with pytest.raises(ValueError, match=r'there is no network r2kd/cifar/resnet9; did you mean'):
        distill(*asked, 'r2kd/cifar/resnet9', tmp_path / 'out', page=False)
    assert list((tmp_path / 'out').rglob('*')) == []
    with pytest.raises(ValueError, match='4 of 4 photos are broken'):
        distill(*asked, 'r2kd/cifar/resnet8', tmp_path / 'out', page=False, teacher_init='none', student_init='none')


class TestTheFolder:
    def options(self, tmp_path, **changes):
        return Options(tmp_path / 'photos', 'timm/a', 'timm/b', tmp_path / 'out', **changes)

    def test_of_another_run_is_refused_by_what_differs(self, tmp_path):
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out' / RECORD).write_text(json.dumps(self.options(tmp_path).identity))
        _check_record(self.options(tmp_path, seeds=3))
        with pytest.raises(ValueError, match='holds another run: epochs: 60 there, 5 now. Give another folder'):
            _check_record(self.options(tmp_path, epochs=5))

    def test_of_another_run_with_two_teachers_is_named_by_what_was_given(self, tmp_path):
        (tmp_path / 'out').mkdir()
        both = self.options(tmp_path).identity
        both.update(teacher=['timm/a', 'timm/c'], teacher_ckpt=[None, None])
        (tmp_path / 'out' / RECORD).write_text(json.dumps(both))
        message = r"holds another run: teacher: \['timm/a', 'timm/c'\] there, 'timm/a' now. Give another folder"
        with pytest.raises(ValueError, match=message):
            _check_record(self.options(tmp_path))

    def test_of_an_earlier_version_had_the_defaults_of_options_that_it_did_not_know(self, tmp_path):
        (tmp_path / 'out').mkdir()
        known = self.options(tmp_path).identity
        del known['unlabelled_share']
        (tmp_path / 'out' / RECORD).write_text(json.dumps(known))
        _check_record(self.options(tmp_path))
        with pytest.raises(ValueError, match='unlabelled_share: 0.5 there, 0.25 now'):
            _check_record(self.options(tmp_path, unlabelled_share=0.25))

    def test_of_other_photos_is_refused(self, tmp_path, photos):
        out = tmp_path / 'out'
        _check_photos(self.options(tmp_path), photos)  # the first call
        out.mkdir()
        (out / RECORD).write_text(json.dumps({PHOTOS: 'a'}))
        _check_photos(self.options(tmp_path), replace(photos, digest='a'))
        with pytest.raises(ValueError, match='the photos changed: .* give another --out'):
            _check_photos(self.options(tmp_path), replace(photos, digest='b'))
        (out / RECORD).write_text('{}')  # of an earlier version
        with pytest.raises(ValueError, match='the photos changed'):
            _check_photos(self.options(tmp_path), replace(photos, digest='a'))

    def test_with_other_files_is_refused(self, tmp_path):
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out' / 'thesis.tex').touch()
        with pytest.raises(ValueError, match=r"holds other files, such as 'thesis\.tex'"):
            _check_record(self.options(tmp_path))


def test_a_typo_in_an_option_is_refused(tmp_path):
    with pytest.raises(TypeError, match='epoch'):
        distill(Path('photos'), 'timm/a', 'timm/b', tmp_path, epoch=3)
