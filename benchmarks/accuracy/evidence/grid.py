"""List the methods that each question of the evidence benchmark compares, and its data set sizes and epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config

from r2kd_mm.hooks import LossScheduleHook
from r2kd_mm.runs import Method

CONFIGS = Path(__file__).resolve().parents[3] / 'configs'
TEACHER = 'res14w16'
TEACHER_WIDTH = 16
# Pair to student; the teacher is the same.
PAIRS = {'same-family': 'res14w8', 'other-family': 'mv2'}
WARM_UP_SHARE = 1 / 30  # of the epochs, as in the configs
DKD_WARM_UP_SHARE = 20 / 240  # as in its authors' runs
LS_TEMPERATURE = 2.0  # of z-scores, as in the paper of logit standardisation
Options = dict[str, Any]
CUTMIX: Options = {'model.augmentation': dict(type='CutMix', alpha=1.0)}
# of one view of an image, the pruned copy on the statistics of the batch
R2KD_PLUS: Options = dict(augmentation=None, pruned_teacher_mode='train')
# images that are mixed before student and teacher see them, in the place of a second view
MIXED_ONLY: Options = {
    'model.augmentation': None,
    'data_preprocessor.num_classes': 100,
    'data_preprocessor.batch_augments': dict(augments=dict(type='mmpretrain.CutMix', alpha=1.0)),
}
HALF_BATCHES: Options = {'train_dataloader.batch_size': 32}  # in place of 64 images


@dataclass(frozen=True)
class Scale:
    """The data set size and the training length of a benchmark run.

    Args:
        train_size: Training images, of 100 classes.
        val_size: Images that anything is chosen on.
        test_size: Images that are reported.
        epochs: Of a method with two views an image; one with a single view takes twice as many, so that all students
            see as many images.
        teacher_epochs: Of the teacher.
        difficulty: Of the images.
        crop: Whether the training images are cropped at random, which the drawing has shifted already.
        num_workers: Data workers.
        label_noise: Share of wrong labels in the training images.
    """

    train_size: int
    val_size: int
    test_size: int
    epochs: int
    teacher_epochs: int
    difficulty: float
    crop: bool
    num_workers: int
    label_noise: float = 0.0

    def options(self, epochs: int) -> Options:
        """Options of a run of the given number of epochs."""
        warm_up = max(1, round(WARM_UP_SHARE * epochs)) if epochs > 1 else 0
        cosine = dict(type='CosineAnnealingLR', by_epoch=True, convert_to_iter_based=True)
        scheduler = [dict(cosine, T_max=epochs - warm_up, begin=warm_up, end=epochs)]
        if warm_up:
            ramp = dict(type='LinearLR', start_factor=0.01, begin=0, end=warm_up)
            scheduler.insert(0, dict(ramp, by_epoch=True, convert_to_iter_based=True))
        options: Options = {
            'param_scheduler': scheduler,
            'train_cfg.max_epochs': epochs,
            'train_cfg.val_interval': max(1, epochs // 5),
            'default_hooks.checkpoint.interval': max(1, epochs // 5),
        }
        for split in ('train', 'val', 'test'):
            options[f'{split}_dataloader.dataset.size'] = getattr(self, f'{split}_size')
            options[f'{split}_dataloader.dataset.difficulty'] = self.difficulty
            options[f'{split}_dataloader.num_workers'] = self.num_workers
            options[f'{split}_dataloader.persistent_workers'] = self.num_workers > 0
            options[f'{split}_dataloader.pin_memory'] = False
        if not self.crop:
            options['train_dataloader.dataset.pipeline'] = [dict(type='NormalizeContrast'), dict(type='PackInputs')]
        if self.label_noise:
            options['train_dataloader.dataset.label_noise'] = self.label_noise
        return options


SCALES = {
    # what the tests run
    'tiny': Scale(200, 100, 100, epochs=1, teacher_epochs=1, difficulty=0.0, crop=False, num_workers=0),
    # what two CPU cores do in an hour
    'short': Scale(6000, 2000, 10000, epochs=5, teacher_epochs=20, difficulty=0.2, crop=False, num_workers=0),
    # over night
    'reduced': Scale(6000, 2000, 10000, epochs=30, teacher_epochs=40, difficulty=0.2, crop=False, num_workers=0),
    # over night, with room above the teacher
    'hard': Scale(6000, 2000, 10000, epochs=30, teacher_epochs=40, difficulty=0.5, crop=False, num_workers=0),
    # for a GPU
    'full': Scale(20000, 5000, 10000, epochs=60, teacher_epochs=60, difficulty=0.5, crop=True, num_workers=4),
}


@dataclass(frozen=True)
class Teacher:
    """A network to learn from.

    Args:
        width: Channels of its first stage; the last has four times as many.
        label_noise: Share of wrong labels that it was trained with.
    """

    width: int = TEACHER_WIDTH
    label_noise: float = 0.0

    @property
    def name(self) -> str:
        """The name in the tables."""
        width = '' if self.width == TEACHER_WIDTH else f' of {self.width} channels'
        noise = f', {self.label_noise:.0%} wrong labels' if self.label_noise else ''
        return f'teacher{width}{noise}'

    def network(self, prefix: str) -> Options:
        """Options that give the network at ``prefix`` of a config its width."""
        return {
            f'{prefix}.backbone.base_channels': self.width,
            f'{prefix}.backbone.stem_channels': self.width,
            f'{prefix}.head.in_channels': 4 * self.width,
        }

    def training(self, scale: Scale) -> Method:
        """The way it is trained."""
        config = str(CONFIGS / 'supervised' / f'{TEACHER}_glyph100.py')
        options = replace(scale, label_noise=self.label_noise).options(scale.teacher_epochs)
        return Method(self.name, config, {**options, **self.network('model')})


@dataclass(frozen=True)
class Setting:
    """The subject of a question: a pair at a scale, with its teacher.

    Args:
        scale: The sizes.
        pair: One of :data:`PAIRS`.
        teacher_ckpts: Teacher to its weights, of all that the question needs.
        teacher: The one that teaches, unless a method says another.
    """

    scale: Scale
    pair: str
    teacher_ckpts: Mapping[Teacher, str]
    teacher: Teacher

    def alone(self, name: str = 'student alone') -> Method:
        """The student without a teacher, of one view."""
        config = str(CONFIGS / 'supervised' / f'{PAIRS[self.pair]}_glyph100.py')
        return Method(name, config, self.scale.options(2 * self.scale.epochs))

    def distilled(self, name: str, method: str, rounds: int, options: Options | None = None) -> Method:
        """A distillation of the pair.

        Args:
            name: What the tables call it.
            method: Begin of the config's name.
            rounds: Epochs in units of the scale's: 2 with one view of an image, 1 with two, for as many passes.
            options: Further fields to change.
        """
        folder = 'r2kd' if method == 'r2kd-released' else method
        config = str(CONFIGS / folder / f'{method}_{TEACHER}_{PAIRS[self.pair]}_glyph100.py')
        epochs = self.scale.epochs * rounds
        schedule = self.scale.options(epochs)
        if method == 'dkd':
            hooks = [hook['type'] for hook in Config.fromfile(config).custom_hooks]
            place = hooks.index(LossScheduleHook)
            schedule[f'custom_hooks.{place}.ramp'] = max(1, round(DKD_WARM_UP_SHARE * epochs))
        # for speed: bf16 where the device computes in it; one engine for all methods
        shared: Options = {'model.teacher_engine': 'fast', 'model.channels_last': True}
        shared |= {'model.teacher_ckpt': self.teacher_ckpts[self.teacher], **self.teacher.network('model.teacher')}
        if self.scale.teacher_epochs == 1:  # may be no better than guessing
            shared['model.allow_untrained_teacher'] = True
        return Method(name, config, {**schedule, **shared, **(options or {})})

    def r2kd(self, name: str, **options: Any) -> Method:
        """R2KD with other options of the model; a name with double underscores stands for one with dots."""
        options = {f'model.{key.replace("__", ".")}': value for key, value in options.items()}
        rounds = 2 if options.get('model.augmentation', ...) is None else 1
        return self.distilled(name, 'r2kd', rounds, options)


def which_method(setting: Setting) -> list[Method]:
    """Compare the methods (question a): one teacher, the same number of images for every student."""
    return [
        setting.alone(),
        setting.distilled('KD', 'kd', 2),
        setting.distilled('KD + LS', 'kd-ls', 2),
        setting.distilled('DKD', 'dkd', 2),
        setting.distilled('DIST', 'dist', 2),
        setting.distilled('MLKD', 'mlkd', 2),
        setting.distilled('CMKD', 'cmkd', 1),
        setting.distilled('R2KD released', 'r2kd-released', 1),
        setting.r2kd('R2KD'),
    ]


def which_part(setting: Setting) -> list[Method]:
    """Compare the parts of R2KD (question b): each row changes one thing."""

    return [
        setting.r2kd('R2KD'),
        setting.r2kd('value: rows only', losses__loss_value__batch_wise=False),
        setting.r2kd('value: columns only', losses__loss_value__class_wise=False),
        setting.r2kd('value: centred', losses__loss_value__centered=True),
        setting.r2kd('no value term', losses__loss_value__loss_weight=0.0),
        setting.r2kd('no rank term', losses__loss_rank__loss_weight=0.0),
        setting.r2kd('rank: hard (released)', losses__loss_rank__estimator='hard'),
        setting.r2kd('rank: blackbox', losses__loss_rank__estimator='blackbox'),
        setting.r2kd('rank: permutahedron', losses__loss_rank__estimator='permutahedron'),
        setting.r2kd('no pruned teacher', pruner=None),
        setting.r2kd('pruned: 30 %', pruner__amount=0.3),
        setting.r2kd('pruned: 50 %', pruner__amount=0.5),
        setting.r2kd('pruned: weight 0.5', teacher_weight=0.5),
        setting.r2kd('pruned: train mode (released)', pruned_teacher_mode='train'),
        setting.r2kd('view: none', augmentation=None),
        setting.r2kd('view: Mixup', **_view(type='Mixup', alpha=0.2)),
        setting.r2kd('view: Cutout', **_view(type='Cutout', length=8)),
        setting.r2kd('view: AutoAugment (SVHN)', **_view(type='AutoAugment', policy='svhn')),
        setting.r2kd('view: CutMixPick', **_view(type='CutMixPick', alpha=1.0)),
    ]


def _view(**augmentation: Any) -> Options:
    return dict(augmentation=dict(augmentation, _delete_=True))


def which_recipe(setting: Setting) -> list[Method]:
    """Compare candidates for the default of R2KD: the rows above R2KD in question (b), and pairs of them.

    R2KD+ has no augmented view, and its pruned copy is in train mode.
    """
    above = ('value: columns only', 'value: centred', 'pruned: train mode (released)', 'view: CutMixPick', 'view: none')
    together = dict(_view(type='CutMixPick', alpha=1.0), losses__loss_value__centered=True)
    return [
        *(method for method in which_part(setting) if method.name in ('R2KD', *above)),
        setting.r2kd('view: CutMixPick, value: centred', **together),
        setting.r2kd('R2KD+', **R2KD_PLUS),
        setting.distilled('DIST', 'dist', 2),
    ]


def which_plus(setting: Setting) -> list[Method]:
    """Compare R2KD+ with R2KD and with its rivals in longer training; its two changes are rows of question (b)."""
    return [
        setting.distilled('KD', 'kd', 2),
        setting.distilled('DIST', 'dist', 2),
        setting.r2kd('R2KD'),
        setting.r2kd('R2KD+', **R2KD_PLUS),
    ]


def who_ends_higher(setting: Setting) -> list[Method]:
    """Compare the methods and the augmented view in training that converges, at the same number of passes."""
    return [
        setting.alone(),
        *which_plus(setting),
        setting.distilled('KD, CutMix', 'kd', 1, CUTMIX),
        setting.distilled('DIST, CutMix', 'dist', 1, CUTMIX),
    ]


def which_mixed(setting: Setting) -> list[Method]:
    """Compare CutMix as the only view of an image with CutMix as its second view (plan.md, stage 1)."""
    return [
        setting.distilled('KD', 'kd', 2),
        setting.r2kd('R2KD'),
        setting.distilled('KD, mixed only', 'kd', 2, MIXED_ONLY),
        setting.distilled('DIST, mixed only', 'dist', 2, MIXED_ONLY),
        setting.distilled('R2KD, mixed only', 'r2kd', 2, MIXED_ONLY),
    ]


def which_part_ends_higher(setting: Setting) -> list[Method]:
    """Compare the parts of R2KD next to its view (question b) in training that converges."""
    rows = ('R2KD', 'no rank term', 'no pruned teacher')
    return [method for method in which_part(setting) if method.name in rows]


def which_claim(setting: Setting) -> list[Method]:
    """Test the claim that KL suffers from the augmented view where the correlation distance gains (question c).

    Without the view a student has the same passes in twice the steps, or the same steps in half the passes. With
    batches of half the size, a student with the view has the same passes in the same steps.
    """
    half = 'half the passes'
    return [
        setting.distilled('KD', 'kd', 2),
        setting.distilled(f'KD, {half}', 'kd', 1),
        setting.distilled('KD, CutMix', 'kd', 1, CUTMIX),
        setting.distilled('KD, CutMix, half batches', 'kd', 1, CUTMIX | HALF_BATCHES),
        setting.distilled('DIST', 'dist', 2),
        setting.distilled(f'DIST, {half}', 'dist', 1),
        setting.distilled('DIST, CutMix', 'dist', 1, CUTMIX),
        setting.distilled('DIST, CutMix, half batches', 'dist', 1, CUTMIX | HALF_BATCHES),
        setting.r2kd('view: none', augmentation=None),
        setting.distilled(f'view: none, {half}', 'r2kd', 1, {'model.augmentation': None}),
        setting.r2kd('no pruned teacher', pruner=None),
        setting.r2kd('R2KD'),
        setting.distilled('R2KD, half batches', 'r2kd', 1, HALF_BATCHES),
    ]


def few_labels(setting: Setting) -> list[Method]:
    """Train with a fifth of the images in the same number of steps; the teacher has seen all images (question d)."""
    few = replace(setting.scale, train_size=setting.scale.train_size // 5, epochs=setting.scale.epochs * 5)
    return _selected(replace(setting, scale=few), 'few labels')


def wrong_labels(setting: Setting, share: float) -> list[Method]:
    """Train with wrong labels, the same as those of the teacher (question d)."""
    noisy = replace(setting.scale, label_noise=share)
    return _selected(replace(setting, scale=noisy), f'{share:.0%} wrong labels')


def _selected(setting: Setting, condition: str) -> list[Method]:
    """Select methods to compare under a condition."""
    return [
        setting.alone(f'student alone, {condition}'),
        setting.distilled(f'KD, {condition}', 'kd', 2),
        setting.distilled(f'DIST, {condition}', 'dist', 2),
        setting.r2kd(f'R2KD, {condition}'),
        setting.distilled(f'R2KD, no pruned teacher, {condition}', 'r2kd', 1, {'model.pruner': None}),
        setting.r2kd(f'R2KD+, {condition}', **R2KD_PLUS),
    ]


def which_teacher(setting: Setting) -> list[Method]:
    """Compare teachers: does a stronger teacher make a better student (question e)?"""
    methods = []
    for teacher in TEACHER_SIZES:
        sized = replace(setting, teacher=teacher)
        source = '' if teacher == setting.teacher else f', {teacher.name}'
        methods += [
            sized.distilled(f'KD{source}', 'kd', 2),
            sized.distilled(f'DIST{source}', 'dist', 2),
            sized.distilled(f'CMKD{source}', 'cmkd', 1),
            sized.r2kd(f'R2KD{source}'),
        ]
    return methods


def which_step(setting: Setting) -> list[Method]:
    """Look beyond both papers: each row changes one thing of R2KD without its augmented view, or of that view."""
    cfg = Config.fromfile(setting.r2kd('R2KD').config)
    losses = cfg.model.losses.to_dict()
    value = dict(type='LogitStandardization', loss=dict(losses['loss_value'], temperature=LS_TEMPERATURE))
    difficulty = dict(loss_cmkd=dict(type='CMKDLoss', batch_wise=True), _delete_=True)
    teacher = dict(teacher=cfg.model.teacher.to_dict(), teacher_ckpt=setting.teacher_ckpts[setting.teacher])
    members = dict(
        teacher=dict(teacher, weight=0.6),
        pruned_teacher=dict(copy_of='teacher', pruner=dict(type='MagnitudePruner', amount=0.1), weight=0.2),
        twice_pruned_teacher=dict(copy_of='teacher', pruner=dict(type='MagnitudePruner', amount=0.3), weight=0.2),
    )
    copies: Options = {
        'model.augmentation': None,
        'model.teacher': dict(type='TeacherEnsemble', members=members, _delete_=True),
        'model.teacher_ckpt': None,
        'model.losses': dict(losses, _delete_=True),
    }
    hooks = [hook.to_dict() for hook in cfg.custom_hooks]
    flat = _view(type='AutoAugment', policy='svhn')  # of one image
    ramp = dict(type='AugmentationScheduleHook', ramp=setting.scale.epochs // 2)

    def one_view(change: str, **options: Any) -> Method:
        return setting.r2kd(f'view: none, {change}', augmentation=None, **options)

    return [
        setting.distilled('DIST', 'dist', 2),
        setting.r2kd('R2KD'),
        setting.distilled('R2KD, half batches', 'r2kd', 1, HALF_BATCHES),
        setting.distilled('R2KD, gradients up to 20', 'r2kd', 1, {'optim_wrapper.clip_grad.max_norm': 20.0}),
        setting.distilled('view: let in slowly', 'r2kd', 1, {'custom_hooks': [*hooks, ramp]}),
        setting.r2kd('view: AutoAugment (SVHN)', **flat),
        setting.r2kd('view: AutoAugment (SVHN), consistent', **flat, consistency=dict(type='KLDivergenceLoss')),
        setting.r2kd('view: none', augmentation=None),
        one_view('value: centred', losses__loss_value__centered=True),
        one_view('value: columns only', losses__loss_value__class_wise=False),
        one_view('value: temperature per sample', losses__loss_value=dict(value, _delete_=True)),
        one_view('rank: none', losses__loss_rank__loss_weight=0.0),
        one_view('terms: weighed by difficulty', losses=difficulty),
        one_view('pruned: none', pruner=None),
        one_view('pruned: weight 0.5', teacher_weight=0.5),
        one_view('pruned: by confidence', weighting=dict(type='ConfidenceWeights')),
        # R2KD itself makes one copy
        setting.distilled('view: none, pruned: two copies', 'cmkd', 2, copies),
    ]


@dataclass(frozen=True)
class Question:
    """A table.

    Args:
        methods: Its rows.
        baseline: The one that the others are compared with.
        teachers: All that its methods learn from; the first is the one that teaches unless a row says another.
    """

    methods: Callable[[Setting], list[Method]]
    baseline: str
    teachers: tuple[Teacher, ...] = (Teacher(),)


TEACHER_SIZES = (Teacher(), Teacher(8), Teacher(32))
QUESTIONS = {
    'methods': Question(which_method, 'KD'),
    'parts': Question(which_part, 'R2KD'),
    'claims': Question(which_claim, 'KD'),
    'few-labels': Question(few_labels, 'KD, few labels'),
    'wrong-labels-20': Question(partial(wrong_labels, share=0.2), 'KD, 20% wrong labels', (Teacher(label_noise=0.2),)),
    'wrong-labels-40': Question(partial(wrong_labels, share=0.4), 'KD, 40% wrong labels', (Teacher(label_noise=0.4),)),
    'teachers': Question(which_teacher, 'KD', TEACHER_SIZES),
    'recipe': Question(which_recipe, 'R2KD'),
    'plus': Question(which_plus, 'R2KD'),
    'ends': Question(who_ends_higher, 'KD'),
    'mixed': Question(which_mixed, 'KD, mixed only'),
    'ends-parts': Question(which_part_ends_higher, 'R2KD'),
    'next': Question(which_step, 'DIST'),
}
