"""The mechanics that every logit distillation shares: views, frozen teachers, named losses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModel
from mmpretrain.structures import DataSample
from mmrazor.models.algorithms.base import BaseAlgorithm
from mmrazor.models.utils import add_prefix
from torch import Tensor, nn

from r2kd_mm.arguments import check_switches, check_weights
from r2kd_mm.augmentations import BatchAugmentation, BatchDraws, ViewContext
from r2kd_mm.classifiers import check_single_label, classifier_logits, num_classes
from r2kd_mm.distillers.algorithms import algorithms, check_algorithms, check_group_fisher, sub_networks
from r2kd_mm.distillers.features import build_features, check_sources, feature_losses, forget, recorded
from r2kd_mm.distillers.gathering import LogitGatherer, ViewLogits
from r2kd_mm.distillers.inputs import take_over_inputs_
from r2kd_mm.distillers.student import (
    compile_backbone_,
    keep_channels_last_,
    layer_depth,
    logits_module,
    recorded_logits,
    unwrap_student,
)
from r2kd_mm.registry import MODELS, build_component
from r2kd_mm.teachers.build import check_same_inputs
from r2kd_mm.teachers.engine import TeacherEngine
from r2kd_mm.teachers.ensemble import MAIN_MEMBER, TeacherEnsemble, as_ensemble
from r2kd_mm.teachers.frozen import FrozenNetworks
from r2kd_mm.teachers.identity import describe
from r2kd_mm.teachers.replay import Replay
from r2kd_mm.teachers.weighting import mix
from r2kd_mm.weights import keep_weights_


@MODELS.register_module()
class LogitDistiller(BaseAlgorithm):
    """Train a student on its own loss and on losses between its logits and those of a frozen teacher.

    One step: the student's own loss (its head's, usually cross entropy) on the clean images; every distillation loss
    on the clean images; and, with an ``augmentation``, every distillation loss once more on the augmented view, for
    which student and teacher run again and no label is used. Losses are logged as ``student.loss``, ``clean.<name>``
    and ``augmented.<name>``, and MMEngine trains their sum. With ``consistency``, a loss between the student's own
    logits of the two views joins them, as ``consistency.loss``; with ``features``, losses between what lies inside of
    both networks on the clean images, as ``features.<name>``.

    With one :class:`~r2kd_mm.losses.KLDivergenceLoss` and no augmentation this is plain knowledge distillation;
    :class:`~r2kd_mm.distillers.R2KD` adds the pruned teacher.

    Teachers are no submodules (:class:`~r2kd_mm.teachers.frozen.FrozenNetworks`): always in eval mode, without
    gradient, and in no optimizer, checkpoint, moving average or DDP wrapper. ``mode='tensor'`` and ``'predict'`` run
    the student alone.

    The student may be an algorithm of mmrazor that prunes it. Of a slimmable student a step trains every sub-network
    with all losses; it is their mean, and a term of each is logged as ``<sub-network>.<term>``.

    Attributes:
        step_logits: Logits of the last step by view and network, such as ``('clean', 'student')``; for hooks. Of a
            slimmable student, those of the largest sub-network.

    Args:
        architecture: The student, config or model; a model keeps the weights that it has.
        teacher: The teacher, see :func:`~r2kd_mm.teachers.build.build_teacher`; several as a
            :class:`~r2kd_mm.teachers.TeacherEnsemble`, config or object; ``None`` builds the student alone, to
            evaluate it.
        losses: Name to loss. A name must contain ``loss``, because MMEngine trains only such terms.
        teacher_ckpt: Path or URL of the teacher's weights; those of an ensemble are given in it.
        allow_untrained_teacher: Accept a teacher without weights.
        augmentation: Makes the augmented view; ``None`` trains on the clean images only.
        consistency: Loss that draws the student's logits of the augmented view to those of the clean images, which
            stand in the teacher's place and get no gradient (Xie et al., NeurIPS 2020, arXiv 1904.12848, Eq. 1). The
            augmentation must keep labels, and the loss needs none. It acts while a distillation loss does so on that
            view.
        task_loss_weight: Factor of the student's own loss, >= 0.
        gather: In a run of several processes, make every loss that of all their batches together, whose gradient does
            not depend on the number of processes; losses that compare samples see them all, in one collective a step.
            ``False`` keeps each process to its own batch, as the published codes do. With gradient accumulation a
            batch is what one forward pass sees.
        teacher_engine: How the teachers are run, see :class:`~r2kd_mm.teachers.engine.TeacherEngine`:
            ``'exact'``, or ``'fast'`` for half precision.
        replay: Keep the teachers' logits on disk and ask for each once, see
            :class:`~r2kd_mm.teachers.replay.Replay` for the fields. It takes :class:`~r2kd_mm.hooks.ReplayHook` and a
            ``ResumableTrainLoop`` with a ``cycle``. Once all logits are there, teachers whose weights are local files
            are not even loaded.
        joint_views: Run the student once over clean images and augmented view together. Its batch norm then
            normalises both by common statistics, so this trains another student than two passes do.
        channels_last: Keep the student's convolutions in that memory format.
        compile_student: Compile the student's backbone by ``torch.compile``.
        features: mmrazor's ``ConfigurableDistiller``, whose losses are added on the clean images. Its recorders name
            modules of the student's classifier and of the teacher, the real one instead of what the engine prepares;
            its connectors are trained and saved with the student. With several processes, each takes its own batch.
        data_preprocessor: Normalises the images for student and teacher alike; the student's own by default.
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: A part is missing, unknown, out of range, or does not fit the others.
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
        take_over_inputs_(self.data_preprocessor, unwrap_student(architecture))
        check_algorithms(architecture)
        check_weights(task_loss_weight=task_loss_weight)
        check_switches(
            allow_untrained_teacher=allow_untrained_teacher,
            gather=gather,
            joint_views=joint_views,
            channels_last=channels_last,
            compile_student=compile_student,
        )
        self.task_loss_weight = task_loss_weight
        self.gather = gather
        self.joint_views = joint_views
        self.teacher_engine = TeacherEngine.from_config(teacher_engine)
        if channels_last:
            keep_channels_last_(architecture)
        if compile_student:
            compile_backbone_(unwrap_student(architecture))
        self.allow_untrained_teacher = allow_untrained_teacher
        self.distillation_losses = nn.ModuleDict(
            {name: build_component(loss, 'loss', 'r2kd_mm.losses') for name, loss in _checked_names(losses).items()}
        )
        self.augmentation = (
            None if augmentation is None else build_component(augmentation, 'augmentation', 'r2kd_mm.augmentations')
        )
        self._augmented_losses = self._choose_augmented_losses()
        self.consistency = None if consistency is None else build_component(consistency, 'loss', 'r2kd_mm.losses')
        if self.consistency is not None:
            self._check_consistency()

        with torch.random.fork_rng(devices=[]):  # a student starts the same with features and without
            self.features = None if features is None else build_features(features)
        if self.features is not None:
            self._check_features(replay, joint_views, compile_student)

        self.distillation_stopped = False  # mmrazor's StopDistillHook sets it
        self._loss_scales = dict.fromkeys(self.distillation_losses, 1.0)
        self._augmented_scale = 1.0
        self._iteration, self._repeats = -1, 0
        self._gatherer = LogitGatherer()
        self.step_logits: dict[tuple[str, str], Tensor] = {}

        self._frozen = FrozenNetworks({})
        self.replay = Replay(**replay) if isinstance(replay, Mapping) else replay
        if self.replay is not None and self.augmentation is not None and self.augmentation.depends_on_batch:
            raise ValueError(
                'a replay needs views that do not depend on the batch, unlike those of '
                f'{type(self.augmentation).__name__}; take another augmentation, or no replay'
            )
        if self.replay is not None and getattr(self.data_preprocessor, 'batch_augments', None) is not None:
            raise ValueError(
                'a replay needs clean images that do not depend on the batch, and batch_augments of the '
                'data_preprocessor mixes them anew in each step; leave batch_augments or replay out'
            )
        if self.replay is not None:
            self.replay.check_losses(self.distillation_losses)
        self._ensemble = None if teacher is None else as_ensemble(teacher, teacher_ckpt)
        if self._ensemble is not None:
            check_single_label(unwrap_student(architecture), 'student', trains=task_loss_weight > 0)
        self.weighting = None if self._ensemble is None else self._ensemble.weighting
        self._clean_members: Tensor | None = None  # logits of the last step, from which learned weights learn
        if self._ensemble is not None:
            if self.replay is not None:
                self._ensemble.check_replay()
            if not (self._ensemble.is_in_files and self.replay is not None and self.replay.store.has_complete):
                self._frozen = self._build_teachers()
                self._ensemble = self._ensemble.without_networks()

    def load_teachers(self) -> None:
        """Load the teachers, which a complete replay has made unnecessary so far."""
        device = next(self.parameters()).device
        self._frozen = self._build_teachers().moved(lambda tensor: tensor.to(device))
        self.replay.check_origin(self._ensemble.made_from(self.teachers))

    def _build_teachers(self) -> FrozenNetworks:
        with torch.random.fork_rng(devices=[]):  # a student starts the same whoever its teacher is, loaded or replayed
            return self._ensemble.build(self.allow_untrained_teacher, self._check_teacher, self.architecture)

    @property
    def teachers(self) -> Mapping[str, nn.Module]:
        """The frozen networks by name; empty where the student was built alone, or a replay stands for them."""
        return self._frozen

    @property
    def teacher(self) -> nn.Module:
        """The frozen teacher; of several, the one of this name."""
        return self._frozen[MAIN_MEMBER]

    @property
    def trained_teachers(self) -> Mapping[str, nn.Module]:
        """The frozen networks that are no copies of another; empty where :attr:`teachers` is."""
        return {name: self.teachers[name] for name in self._ensemble.originals if name in self.teachers}

    @property
    def mutator(self) -> nn.Module:
        """What changes the channels of a student that is an algorithm of mmrazor; its loops and hooks look for it here.

        Raises:
            AttributeError: The student is none.
        """
        for algorithm in algorithms(self.architecture):
            if hasattr(algorithm, 'mutator'):
                return algorithm.mutator
        raise AttributeError(f'the student {type(self.architecture).__name__} has no mutator')

    def get_layer_depth(self, param_name: str) -> tuple[int, int]:
        """Depth of a parameter and the number of depths, for mmpretrain's LearningRateDecayOptimWrapperConstructor."""
        return layer_depth(self.architecture, param_name)

    @property
    def batch_wise_losses(self) -> list[str]:
        """Names of the losses that compare the samples of a batch; a loss that does not say counts as none."""
        losses = {**self.distillation_losses, 'consistency': self.consistency}
        return [name for name, loss in losses.items() if getattr(loss, 'batch_wise', False)]

    @torch.no_grad()
    def teacher_logits(self, inputs: Tensor) -> Tensor:
        """The logits to learn from, shape ``(N, num_classes)``, for preprocessed ``inputs``; without gradient."""
        return self._mix(self._member_logits(inputs))

    def ask(self, name: str, inputs: Tensor) -> Tensor:
        """Logits ``(N, num_classes)`` of the frozen network ``name``, as it teaches: run by the teacher engine."""
        return self.teacher_engine.logits(self.teachers[name], inputs)

    def teacher_digests(self) -> dict[str, str]:
        """SHA-256 of the weights that teach, by the teacher's name: of their local file, or else of them.

        Empty where the student was built alone.
        """
        return {} if self._ensemble is None else self._ensemble.digests(self.teachers)

    def made_from(self) -> dict[str, str]:
        """What in this model decides the logits to learn from, by name."""
        return dict(
            self._ensemble.made_from(self.teachers),
            teacher_engine=describe(self.teacher_engine.settings),
            augmentation=describe(self.augmentation),
            data_preprocessor=describe(self.data_preprocessor),
        )

    def open_replay(self, made_from: Mapping[str, str], seed: int, num_images: int, cycle: int) -> list[str]:
        """For hooks: make the replay ready, and load the teachers if something is left to ask them.

        Args:
            made_from: What outside this model decides the logits, by name, such as the data.
            seed: Of the run.
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
        made_from = {**self.made_from(), **made_from}
        mixed = ('augmented',) if self.augmentation is not None and self.augmentation.mixes_images else ()
        differences = self.replay.open(made_from, seed, classes, num_images, cycle, self._view_names, mixed)
        if not self.teachers and not self.replay.store.is_complete:
            self.load_teachers()
        return differences

    def fill_replay(self, inputs: Tensor, data_samples: list[DataSample]) -> None:
        """Put the logits of a batch into the replay, those of both views, where they are not there yet."""
        self._teach(self._views(inputs, data_samples, self._view_names), data_samples)

    @property
    def _view_names(self) -> tuple[str, ...]:
        return ('clean',) if self.augmentation is None else ('clean', 'augmented')

    def set_loss_scale(self, name: str, scale: float) -> None:
        """For hooks: multiply the distillation loss ``name`` by ``scale`` >= 0 from now on; 0 leaves it out.

        Where nothing is left to distil, the teachers are not run either.

        Raises:
            ValueError: There is no such loss.
        """
        if name not in self._loss_scales:
            raise ValueError(f'there is no distillation loss {name!r}; this model has {sorted(self._loss_scales)}')
        self._loss_scales[name] = scale

    def set_augmented_scale(self, scale: float) -> None:
        """For hooks: multiply all losses of the augmented view by ``scale`` >= 0 from now on; 0 skips the view.

        Raises:
            ValueError: The model has no augmentation.
        """
        if self.augmentation is None:
            raise ValueError('this model has no augmented view to schedule; give it an augmentation')
        self._augmented_scale = scale

    def loss(self, inputs: Tensor, data_samples: list[DataSample] | None = None) -> dict[str, Tensor]:
        """Losses of one step by name; MMEngine sums all whose name contains ``loss``.

        Args:
            inputs: Preprocessed images, shape ``(N, C, H, W)``.
            data_samples: Their labels.
        """
        if self._ensemble is None:
            raise RuntimeError(
                f'this {type(self).__name__} was built with teacher=None, to evaluate the student; '
                'give it a teacher to train'
            )
        check_group_fisher(self.architecture)
        self.step_logits.clear()
        self._clean_members = None
        scales = self._active_scales()
        views = dict.fromkeys(('clean', *scales)) if self._matches_features else scales
        images = self._views(inputs, data_samples, views)
        # the teachers first: what they need beside their logits is free again before the student fills the memory
        teacher_logits = self._teach(images, data_samples)

        losses = {}
        choices = sub_networks(self.architecture)
        for name, choose in choices.items():
            choose()
            losses_of_choice = self._losses(inputs, data_samples, images, teacher_logits, scales)
            losses.update(add_prefix(_scaled(losses_of_choice, 1 / len(choices)), name))
        if not choices:
            losses = self._losses(inputs, data_samples, images, teacher_logits, scales)
        if self.features is not None:
            forget(self.features)
        return losses

    def _losses(
        self,
        inputs: Tensor,
        data_samples: list[DataSample] | None,
        images: Mapping[str, Tensor],
        teacher_logits: Mapping[str, Tensor],
        scales: Mapping[str, Mapping[str, float]],
    ) -> dict[str, Tensor]:
        """Losses of the student as it is now, by name."""
        task_losses, student_logits = self._study(inputs, data_samples, images.get('augmented'))

        views = {}
        for view, active in scales.items():
            self.step_logits[view, 'student'] = student_logits[view].detach()
            self.step_logits[view, 'teacher'] = teacher_logits[view]
            needs_labels = any(_needs_target(self.distillation_losses[name]) for name in active)
            labels = _labels(data_samples) if needs_labels else None
            views[view] = ViewLogits(student_logits[view], teacher_logits[view], labels)

        whole, shares = self._in_all_processes(inputs, views, scales)
        losses = _scaled(task_losses, self.task_loss_weight * shares['task'])
        if self._matches_features:
            losses.update(add_prefix(_scaled(feature_losses(self.features), shares['task']), 'features'))
        elif self.features is not None and next(self.features.parameters(), None) is not None:
            losses['features.loss'] = _no_gradient(self.features)
        losses.update(self._weighting_terms(data_samples, shares['task']))
        for view, active in scales.items():
            for name, scale in active.items():
                loss = self.distillation_losses[name]
                if name in self.batch_wise_losses:
                    batch = whole[view]
                else:
                    batch, scale = views[view], scale * shares[view]
                target = (batch.labels,) if _needs_target(loss) else ()
                losses[f'{view}.{name}'] = scale * loss(batch.student, batch.teacher, *target)
        if self.consistency is not None and 'augmented' in views:
            is_batch_wise = 'consistency' in self.batch_wise_losses
            batches, share = (whole, 1.0) if is_batch_wise else (views, shares['augmented'])
            term = self.consistency(batches['augmented'].student, batches['clean'].student.detach())
            losses['consistency.loss'] = self._augmented_scale * share * term
        return losses

    def _views(self, inputs: Tensor, data_samples: list[DataSample], names: Iterable[str]) -> dict[str, Tensor]:
        """The images of the views that are named."""
        images = {}
        if 'clean' in names:
            images['clean'] = inputs
        if 'augmented' in names:
            images['augmented'] = self.augmentation(inputs, self._view_context(data_samples))
        return images

    def _teach(self, images: Mapping[str, Tensor], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """The logits to learn from, by view: from the replay where they are in it, else from the teachers."""
        if self.replay is None:
            return self._run_teachers(images)
        logits = self.replay.read(images, data_samples)
        if logits is not None:
            return logits
        if not self.teachers:
            print_log('The replay lacks some logits: the teachers are loaded to make them.', logger='current')
            self.load_teachers()
        logits = self._run_teachers(images)
        self.replay.write(logits, data_samples)
        return logits

    def _run_teachers(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The logits to learn from, by view; all views in one batch, where that changes no logit."""
        if self._matches_features:  # those of the clean images alone
            with recorded(self.features.teacher_recorders, self.teacher):
                members = dict(clean=self._member_logits(images['clean']))
            members |= {view: self._member_logits(batch) for view, batch in images.items() if view != 'clean'}
        elif len(images) > 1 and all(self.teacher_engine.can_join(teacher) for teacher in self.teachers.values()):
            joined = self._member_logits(torch.cat(list(images.values())))
            members = dict(zip(images, joined.split([len(batch) for batch in images.values()], dim=1)))
        else:
            members = {view: self._member_logits(batch) for view, batch in images.items()}
        self._clean_members = members.get('clean')
        return {view: self._mix(logits) for view, logits in members.items()}

    def _member_logits(self, inputs: Tensor) -> Tensor:
        """Logits of every teacher, shape ``(teachers, N, num_classes)``."""
        return torch.stack([self.ask(name, inputs) for name in self.teachers])

    @torch.no_grad()
    def _mix(self, members: Tensor) -> Tensor:
        """The logits to learn from, ``(N, num_classes)``, of those of the teachers."""
        return members[0] if len(members) == 1 else mix(members, self.weighting(members))

    def _weighting_terms(self, data_samples: list[DataSample] | None, share: float) -> dict[str, Tensor]:
        """The loss of learned weights, and the weights of the clean images to be logged, where they are not fixed."""
        terms: dict[str, Tensor] = {}
        if self.weighting.is_fixed:
            return terms
        members = self._clean_members
        if self.weighting.is_learned:
            if members is None:
                terms['ensemble.loss'] = _no_gradient(self.weighting)
            else:
                terms['ensemble.loss'] = share * self.weighting.loss(members, _labels(data_samples))
        if members is not None:  # no name of a member contains 'loss', so these are shown and not trained
            weights = self.weighting(members).detach().reshape(len(members), -1).mean(dim=1)
            terms.update((f'ensemble.weight_{name}', weight) for name, weight in zip(self.teachers, weights))
        return terms

    def _study(
        self, inputs: Tensor, data_samples: list[DataSample] | None, view: Tensor | None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The student's own losses on the clean images, and its logits of each view."""
        joint = self.joint_views and view is not None
        classifier = unwrap_student(self.architecture)
        head = logits_module(classifier)
        with ExitStack() as records:
            outputs = records.enter_context(recorded_logits(head, shown=len(inputs) if joint else None))
            if self._matches_features:
                records.enter_context(recorded(self.features.student_recorders, classifier))
            images = torch.cat([inputs, view]) if joint else inputs
            task_losses = self.architecture(images, data_samples, mode='loss')
        logits = dict(clean=outputs[-1][: len(inputs)])
        if view is not None:
            logits['augmented'] = outputs[-1][len(inputs) :] if joint else classifier_logits(self.architecture, view)
        return add_prefix(task_losses, 'student'), logits

    @property
    def _matches_features(self) -> bool:
        return self.features is not None and not self.distillation_stopped

    def _active_scales(self) -> dict[str, dict[str, float]]:
        """Scale of every loss that acts now, by view and name; views without any are left out."""
        if self.distillation_stopped:
            return {}
        clean = {name: scale for name, scale in self._loss_scales.items() if scale > 0}
        augmented = {name: clean[name] * self._augmented_scale for name in self._augmented_losses if name in clean}
        return {
            view: active
            for view, active in (('clean', clean), ('augmented', augmented if self._augmented_scale > 0 else {}))
            if active
        }

    def _in_all_processes(
        self, inputs: Tensor, views: dict[str, ViewLogits], scales: Mapping[str, Mapping[str, float]]
    ) -> tuple[dict[str, ViewLogits], dict[str, float]]:
        """The views of all processes together, and this process's share of them and of the student's own loss."""
        counts = {'task': len(inputs), **{name: len(view.student) for name, view in views.items()}}
        if not self.gather or get_world_size() == 1:
            return views, dict.fromkeys(counts, 1.0)
        acting = {name for active in scales.values() for name in active}
        if 'augmented' in scales:
            acting.add('consistency')
        if acting.isdisjoint(self.batch_wise_losses):
            return views, self._gatherer.shares(counts, inputs.device)
        whole, shares = self._gatherer.gather(views)
        return whole, {'task': shares['clean'], **shares}

    def _view_context(self, data_samples: list[DataSample]) -> ViewContext:
        draws = self.replay.draws(data_samples) if self.replay else BatchDraws(self._step_generator())
        return ViewContext.behind(self.data_preprocessor, draws, lambda images: self.ask('teacher', images))

    def _step_generator(self) -> torch.Generator:
        """Generator of this step's draws, decided by the seed, the rank and the iteration.

        A step that is run again after ``--resume`` draws the same, and ranks draw differently. Steps within one
        iteration, and all steps outside a Runner, are told apart by counting them.
        """
        iteration = MessageHub.get_current_instance().runtime_info.get('iter', 0)
        self._repeats = self._repeats + 1 if iteration == self._iteration else 0
        self._iteration = iteration
        entropy = [torch.initial_seed(), get_rank(), iteration, self._repeats]
        seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))
        return torch.Generator().manual_seed(seed)

    def _choose_augmented_losses(self) -> tuple[str, ...]:
        """Names of the losses of the augmented view: without those that need labels which the augmentation mixes."""
        if self.augmentation is None:
            return ()
        if self.augmentation.keeps_labels:
            return tuple(self.distillation_losses)
        left_out = [name for name, loss in self.distillation_losses.items() if _needs_target(loss)]
        if left_out:
            print_log(
                f'{", ".join(left_out)} need labels, which {type(self.augmentation).__name__} mixes: they act on '
                'the clean images only',
                logger='current',
                level=logging.WARNING,
            )
        return tuple(name for name in self.distillation_losses if name not in left_out)

    def _check_consistency(self) -> None:
        if self.augmentation is None:
            raise ValueError('consistency compares the augmented view with the clean one; give an augmentation as well')
        if not self.augmentation.keeps_labels:
            raise ValueError(
                f'consistency compares an image with its view, which {type(self.augmentation).__name__} makes of '
                'several images; take an augmentation that keeps labels, such as AutoAugment or Cutout'
            )
        if _needs_target(self.consistency):
            raise ValueError(
                f'consistency compares the student with itself, and {type(self.consistency).__name__} needs labels; '
                'take a loss that does not, such as KLDivergenceLoss'
            )

    def _check_teacher(self, name: str, teacher: nn.Module) -> None:
        check_single_label(teacher, 'teacher', trains=False)
        check_same_inputs(teacher, self.data_preprocessor)
        student_classes, teacher_classes = num_classes(unwrap_student(self.architecture)), num_classes(teacher)
        if None not in (student_classes, teacher_classes) and student_classes != teacher_classes:
            raise ValueError(
                f'student and teacher must know the same classes, got num_classes={student_classes} in '
                f'the student and {teacher_classes} in the teacher; set both heads to that of the data set'
            )
        if self.features is not None and name == MAIN_MEMBER:
            check_sources(self.features.teacher_recorders, teacher, 'teacher')

    def _check_features(self, replay: object, joint_views: bool, compile_student: bool) -> None:
        if replay is not None:
            raise ValueError('a replay holds the logits of the teachers and no features; leave features or replay out')
        if joint_views:
            raise ValueError('features are those of the clean images alone, which joint_views mixes; leave one out')
        if compile_student:
            raise ValueError('a compiled student shows no features; leave features or compile_student out')
        check_sources(self.features.student_recorders, unwrap_student(self.architecture), 'student')

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> LogitDistiller:
        """Move the teachers along with the student (``.to()``, ``.cuda()``, ``.double()``)."""
        super()._apply(fn, recurse)
        self._frozen = self._frozen.moved(fn)
        return self


def _checked_names(losses: Mapping[str, dict | nn.Module]) -> Mapping[str, dict | nn.Module]:
    """Refuse names that MMEngine would show and not train."""
    if not isinstance(losses, Mapping) or not losses:
        raise ValueError(
            'losses must be a dict of at least one named loss, such as '
            f"dict(loss_kd=dict(type='KLDivergenceLoss')), got {losses!r}"
        )
    for name in losses:
        if 'loss' not in name or '.' in name:
            raise ValueError(
                f"the name of a loss must contain 'loss', because MMEngine trains only such terms, and no "
                f'dot, got {name!r}; call it {"loss_" + name.replace(".", "_")!r}'
            )
    return losses


def _no_gradient(module: nn.Module) -> Tensor:
    """A loss of 0 for when nothing is distilled: DistributedDataParallel wants a gradient of every parameter."""
    return torch.stack([0 * parameter.sum() for parameter in module.parameters()]).sum()


def _needs_target(loss: nn.Module) -> bool:
    """Whether a loss wants the labels; those of other packages, which do not say, want logits alone."""
    return getattr(loss, 'needs_target', False)


def _scaled(losses: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Multiply the terms that are trained; others, such as an accuracy, are only shown."""
    return {name: factor * value if 'loss' in name else value for name, value in losses.items()}


def _labels(data_samples: list[DataSample]) -> Tensor:
    """Class indices ``(N,)``, or class shares ``(N, num_classes)`` where the data preprocessor mixed the labels."""
    if 'gt_score' in data_samples[0]:
        return torch.stack([sample.gt_score for sample in data_samples])
    return torch.cat([sample.gt_label for sample in data_samples])
