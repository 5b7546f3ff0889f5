"""Define the MMEngine model that trains a student by its own loss and by losses against frozen teachers' logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import torch
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from mmrazor.models.algorithms.base import BaseAlgorithm
from torch import Tensor, nn

from r2kd_mm.arguments import check_switches, check_weights
from r2kd_mm.augmentations import BatchAugmentation, ViewContext
from r2kd_mm.classifiers import check_same_classes, check_single_label, num_classes
from r2kd_mm.distillers.algorithms import algorithms, check_algorithms, check_group_fisher
from r2kd_mm.distillers.combinations import FORBIDDEN, check_combinations
from r2kd_mm.distillers.features import Features, check_sources
from r2kd_mm.distillers.inputs import take_over_inputs_
from r2kd_mm.distillers.objective import Objective, check_names
from r2kd_mm.distillers.step import Step
from r2kd_mm.distillers.student import (
    ClassifierStudent,
    compile_backbone_,
    keep_channels_last_,
    layer_depth,
    unwrap_student,
)
from r2kd_mm.distillers.views import Views
from r2kd_mm.moved import keep_old_attributes
from r2kd_mm.registry import MODELS, build_component
from r2kd_mm.teachers.build import check_same_inputs
from r2kd_mm.teachers.engine import TeacherEngine
from r2kd_mm.teachers.ensemble import MAIN_MEMBER, TeacherEnsemble, as_ensemble
from r2kd_mm.teachers.identity import describe
from r2kd_mm.teachers.loading import TeacherLoader
from r2kd_mm.teachers.replay import Replay
from r2kd_mm.teachers.targets import Targets
from r2kd_mm.weights import keep_weights_


@MODELS.register_module()
@keep_old_attributes
class LogitDistiller(BaseAlgorithm):
    """Model that trains a student on its own loss and on losses between its logits and a frozen teacher's logits.

    One step: the student's own loss (its head's, usually cross entropy) on the clean images; every distillation loss
    on the clean images; and, with an ``augmentation``, every distillation loss once more on the augmented view, for
    which student and teacher run again and no label is used. Losses are logged as ``student.loss``, ``clean.<name>``
    and ``augmented.<name>``, and MMEngine trains their sum. With ``consistency``, a loss between the student's own
    logits of the two views is added, as ``consistency.loss``; with ``features``, losses between intermediate features
    of both networks on the clean images, as ``features.<name>``.

    With one :class:`~r2kd_mm.losses.KLDivergenceLoss` and no augmentation this is plain knowledge distillation;
    :class:`~r2kd_mm.distillers.R2KD` adds the pruned teacher.

    Teachers are not submodules (:class:`~r2kd_mm.teachers.frozen.FrozenNetworks`): always in eval mode, without
    gradient, and in no optimizer, checkpoint, moving average or DDP wrapper. ``mode='tensor'`` and ``'predict'`` run
    the student alone.

    The student may be inside an mmrazor algorithm that prunes it. For a slimmable student, a step trains every
    sub-network with all losses. The total loss is the mean over the sub-networks; each term is logged as
    ``<sub-network>.<term>``.

    Attributes:
        step_logits: Logits of the last step by view and network, such as ``('clean', 'student')``; for hooks. For a
            slimmable student, the logits of the largest sub-network.

    Args:
        architecture: The student, config or model; a model keeps the weights that it has.
        teacher: The teacher, see :func:`~r2kd_mm.teachers.build.build_teacher`; several as a
            :class:`~r2kd_mm.teachers.TeacherEnsemble`, config or object; ``None`` builds the student alone, to
            evaluate it.
        losses: Name to loss. A name must contain ``loss``, because MMEngine trains only such terms.
        teacher_ckpt: Path or URL of the teacher's weights; an ensemble gives the weights of each member.
        allow_untrained_teacher: Accept a teacher without weights.
        augmentation: Makes the augmented view; ``None`` trains on the clean images only.
        consistency: Loss that pulls the student's logits of the augmented view towards its logits of the clean images,
            which replace the teacher's and get no gradient (Xie et al., NeurIPS 2020, arXiv 1904.12848, Eq. 1). The
            augmentation must keep labels, and the loss must not need labels. The loss is active while a distillation
            loss is active on the augmented view.
        task_loss_weight: Factor of the student's own loss, >= 0.
        gather: With several processes, compute every loss over the batches of all processes, by one collective a step.
            So the gradient does not depend on the number of processes, and losses that compare samples see all of them.
            ``False`` keeps each process to its own batch, as the published codes do. With gradient accumulation, a
            batch is the input of one forward pass.
        teacher_engine: How the teachers are run, see :class:`~r2kd_mm.teachers.engine.TeacherEngine`:
            ``'exact'``, or ``'fast'`` for half precision.
        replay: Store the teachers' logits on disk and compute each only once, see
            :class:`~r2kd_mm.teachers.replay.Replay` for the fields. A replay needs :class:`~r2kd_mm.hooks.ReplayHook`
            and a ``ResumableTrainLoop`` with a ``cycle``. Once all logits are stored, teachers whose weights are local
            files are not even loaded.
        joint_views: Run the student once over clean images and augmented view together. Batch norm then uses common
            statistics for both, so the trained student differs from one trained with two passes.
        channels_last: Keep the student's convolutions in the memory format ``torch.channels_last``.
        compile_student: Compile the student's backbone by ``torch.compile``.
        features: Config of mmrazor's ``ConfigurableDistiller``, whose losses are added on the clean images. Its
            recorders name modules of the student's classifier and of the original teacher, not of the engine's copy.
            Its connectors are trained and saved with the student. The losses use the own batch of each process.
        data_preprocessor: Normalises the images for both student and teacher; the student's own by default.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: A part is missing, unknown, out of range, or does not fit the others.

    Example:
        >>> from r2kd_mm.losses import KLDivergenceLoss
        >>> student = dict(type='build_classifier', name='cifar/resnet8', num_classes=10)
        >>> teacher = dict(type='build_classifier', name='cifar/resnet14', num_classes=10)
        >>> model = LogitDistiller(student, teacher, dict(loss_kd=KLDivergenceLoss()), allow_untrained_teacher=True)
        >>> sample = DataSample().set_gt_label(3)
        >>> sorted(model.loss(torch.zeros(1, 3, 32, 32), [sample]))
        ['clean.loss_kd', 'student.loss']
    """

    def __init__(
        self,
        architecture: dict | BaseModel,
        teacher: dict | str | nn.Module | TeacherEnsemble | None,
        losses: Mapping[str, dict | nn.Module],
        teacher_ckpt: str | None = None,
        allow_untrained_teacher: bool = False,
        augmentation: dict | BatchAugmentation | None = None,
        consistency: dict | nn.Module | None = None,
        task_loss_weight: float = 1.0,
        gather: bool = True,
        teacher_engine: str | dict | TeacherEngine = 'exact',
        replay: dict | Replay | None = None,
        joint_views: bool = False,
        channels_last: bool = False,
        compile_student: bool = False,
        features: dict | None = None,
        data_preprocessor: dict | nn.Module | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        if isinstance(architecture, dict):
            architecture = MODELS.build(architecture)
        else:
            keep_weights_(architecture)
        # in-place operations may stay: what is recorded here is the output of the head, which nothing overwrites, and
        # copies of features
        super().__init__(architecture, data_preprocessor, init_cfg, module_inplace=True)
        student = unwrap_student(architecture)
        take_over_inputs_(self.data_preprocessor, student)
        check_algorithms(architecture)
        check_weights(task_loss_weight=task_loss_weight)
        check_switches(
            allow_untrained_teacher=allow_untrained_teacher,
            gather=gather,
            joint_views=joint_views,
            channels_last=channels_last,
            compile_student=compile_student,
        )
        engine = TeacherEngine.from_config(teacher_engine)
        if channels_last:
            keep_channels_last_(architecture)
        if compile_student:
            compile_backbone_(student)
        # the modules that have parameters are attributes of this model: the step only borrows them
        self.distillation_losses = nn.ModuleDict(
            {name: _built_loss(loss) for name, loss in check_names(losses).items()}
        )
        view: Any = augmentation
        if augmentation is not None:
            view = build_component(augmentation, 'augmentation', 'r2kd_mm.augmentations')
        self.consistency = None if consistency is None else _built_loss(consistency)
        with torch.random.fork_rng(devices=[]):  # a student starts the same with features and without
            matching = Features(features)
        self.features = matching.module
        replay = Replay(**replay) if isinstance(replay, Mapping) else replay
        self.allow_untrained_teacher = allow_untrained_teacher
        ensemble = None if teacher is None else as_ensemble(teacher, teacher_ckpt)
        self.weighting = None if ensemble is None else ensemble.weighting
        check_combinations(
            FORBIDDEN,
            augmentation=view,
            compile_student=compile_student,
            consistency=self.consistency,
            data_preprocessor=self.data_preprocessor,
            ensemble=ensemble,
            features=self.features,
            joint_views=joint_views,
            losses=self.distillation_losses,
            replay=replay,
        )
        if self.features is not None:
            check_sources(self.features.student_recorders, student, 'student')
        if ensemble is not None:
            check_single_label(student, 'student', trains=task_loss_weight > 0)
        self._loader = TeacherLoader(ensemble, architecture, self._check_teacher, allow_untrained_teacher, replay)
        ask = None if type(self).ask is LogitDistiller.ask else self.ask  # only a subclass asks in another way
        targets = Targets(self._loader.build(), self.weighting, engine, replay, self._loader.build_for_replay, ask)
        objective = Objective(
            self.distillation_losses,
            view,
            task_loss_weight,
            gather,
            self.consistency,
            parts=(matching.losses, targets.losses),
        )
        views = Views(view, partial(ViewContext.behind, self.data_preprocessor))
        self.step = Step(views, targets, ClassifierStudent(architecture, joint_views, matching), objective, matching)

    def loss(self, inputs: Tensor, data_samples: list[DataSample] | None = None) -> dict[str, Tensor]:
        """Return the losses of one step by name, see :class:`~r2kd_mm.distillers.step.Step`.

        MMEngine sums all whose name contains ``loss``.

        Args:
            inputs: Preprocessed images, shape ``(N, C, H, W)``.
            data_samples: Labels of the images.
        """
        self._loader.required(self)
        student: Any = self.step.student
        student.check_is(self.architecture)
        check_group_fisher(self.architecture)
        return self.step(inputs, samples=data_samples)

    # ------------------------------------------------------------------------------------------------------- the parts
    @property
    def step_logits(self) -> dict[tuple[str, str], Tensor]:
        """Logits of the last step by view and network, such as ``('clean', 'student')``; for hooks."""
        return self.step.logits

    @property
    def augmentation(self) -> BatchAugmentation | None:
        """Makes the augmented view."""
        return self.step.views.augmentation

    @property
    def replay(self) -> Replay | None:
        """Keeps the teachers' logits on disk."""
        return self.step.targets.replay

    @property
    def distillation_stopped(self) -> bool:
        """Return whether the student learns by its own loss alone; mmrazor's ``StopDistillHook`` sets it."""
        return self.step.objective.stopped

    @distillation_stopped.setter
    def distillation_stopped(self, stopped: bool) -> None:
        self.step.objective.stopped = stopped
        if self.step.features is not None:
            self.step.features.stopped = stopped

    @property
    def mutator(self) -> nn.Module:
        """Changes the channels of a student that is an algorithm of mmrazor; its loops and hooks look for it here.

        Raises:
            AttributeError: The student is none.
        """
        for algorithm in algorithms(self.architecture):
            if hasattr(algorithm, 'mutator'):
                return algorithm.mutator
        raise AttributeError(f'the student {type(self.architecture).__name__} has no mutator')

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Return the depth of a parameter and the number of depths, for mmpretrain's layer-wise learning rates."""
        return layer_depth(self.architecture, param_name)

    # ---------------------------------------------------------------------------------------------------- the teachers
    @property
    def teachers(self) -> Mapping[str, nn.Module]:
        """The frozen networks by name; empty where the student was built alone, or a replay stands for them."""
        return self.step.targets.networks

    @property
    def teacher(self) -> nn.Module:
        """The frozen teacher; of several, the one of this name."""
        return self.teachers[MAIN_MEMBER]

    @property
    def trained_teachers(self) -> Mapping[str, nn.Module]:
        """The frozen networks that are no copies of another; empty where :attr:`teachers` is."""
        return {name: self.teachers[name] for name in self._loader.required(self).originals if name in self.teachers}

    def ask(self, name: str, inputs: Tensor) -> Tensor:
        """Return the logits ``(N, num_classes)`` of the teacher ``name``; a subclass may ask it otherwise."""
        return self.step.targets.run(name, inputs)

    def teacher_logits(self, inputs: Tensor) -> Tensor:
        """Return the logits to learn from, shape ``(N, num_classes)``, for preprocessed ``inputs``."""
        return self.step.targets.logits(inputs)

    def teacher_digests(self) -> dict[str, str]:
        """Return the SHA-256 of the weights that teach, by the teacher's name: of their local file, or else of them.

        Empty where the student was built alone.
        """
        return {} if self._loader.ensemble is None else self._loader.ensemble.digests(self.teachers)

    def made_from(self) -> dict[str, str]:
        """Describe everything in this model that decides the logits to learn from, by name."""
        return dict(
            self._loader.required(self).made_from(self.teachers),
            teacher_engine=describe(self.step.targets.engine.settings),
            augmentation=describe(self.augmentation),
            data_preprocessor=describe(self.data_preprocessor),
        )

    def open_replay(self, made_from: Mapping[str, str], seed: int, num_images: int, cycle: int) -> list[str]:
        """Open the replay, and load the teachers if something is left to ask them; for hooks.

        Args:
            made_from: What outside this model decides the logits, by name, such as the data.
            seed: Seed of the run.
            num_images: Size of the training set.
            cycle: After how many epochs images and draws repeat.

        Returns:
            See :meth:`~r2kd_mm.teachers.store.LogitStore.open`.

        Raises:
            ValueError: The student does not say how many classes it knows.
        """
        classes = num_classes(unwrap_student(self.architecture))
        if classes is None:
            raise ValueError('a replay must know the number of classes, and the student does not state its num_classes')
        assert self.replay is not None
        made_from = {**self.made_from(), **made_from}
        views = self.step.views
        differences = self.replay.open(made_from, seed, classes, num_images, cycle, views.names, views.mixed_names)
        if not self.teachers and not self.replay.store.is_complete:
            self.load_teachers()
        return differences

    def load_teachers(self) -> None:
        """Load the teachers, which a complete replay has made unnecessary so far."""
        self.step.targets.load(next(self.parameters()).device)

    def _check_teacher(self, name: str, teacher: nn.Module) -> None:
        check_single_label(teacher, 'teacher', trains=False)
        check_same_inputs(teacher, self.data_preprocessor)
        check_same_classes(unwrap_student(self.architecture), teacher)
        if self.features is not None and name == MAIN_MEMBER:
            check_sources(self.features.teacher_recorders, teacher, 'teacher')

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LogitDistiller:
        """Move the teachers along with the student (``.to()``, ``.cuda()``, ``.double()``)."""
        super()._apply(fn, recurse)
        self.step.targets.convert(fn)
        return self


def _built_loss(loss: dict | nn.Module) -> nn.Module:
    return cast(nn.Module, build_component(loss, 'loss', 'r2kd_mm.losses'))
