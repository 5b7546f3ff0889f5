"""Set up a replay: the first epochs store the teacher logits on disk, and later epochs read the stored logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.utils import ProgressBar
from torch.utils.data import Dataset

from r2kd_mm.augmentations import BatchAugmentation
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.engine import PairedSampler, SeededSampler
from r2kd_mm.engine.config_fields import config_fields
from r2kd_mm.engine.fingerprint import fingerprint
from r2kd_mm.engine.seeding import Trial, changing_draws
from r2kd_mm.engine.wrapped_data import innermost_datasets, skip_counters
from r2kd_mm.hooks.distiller import unwrapped_distiller
from r2kd_mm.registry import HOOKS
from r2kd_mm.teachers.identity import describe
from r2kd_mm.teachers.replay import REPEATED_IMAGES, Replay

# Hooks of OpenMMLab that change the pipeline of a run in its middle, and what mmpretrain's SwitchRecipeHook may change.
SWITCHES = {'PipelineSwitchHook', 'YOLOXModeSwitchHook'}
SWITCHED_PARTS = {'train_pipeline', 'batch_augments'}
_SWITCHED = (
    'how images are prepared in the middle of the run, and a replay holds the logits of one preparation; take the hook '
    'or its switches of pipeline and batch augmentations out of custom_hooks, or train without a replay'
)


@HOOKS.register_module()
class ReplayHook(Hook):
    """Hook that opens the store of teacher logits before training, and marks each epoch whose logits are all stored.

    If the store was made with another teacher, pruner, pipeline, data set or seed, it is not used. The hook then begins
    a new store next to the old one, and warns what differs.

    Raises:
        ValueError: The distiller has no replay; the config has no ``cycle``; the images do not repeat; the pipeline
            replaces broken images; an image occurs more than once per epoch; a hook changes the preprocessing; or the
            augmentation mixes images, and the sampler does not keep partners in the same batch.
        TypeError: The data set gives samples that cannot be identified.

    Example:
        >>> custom_hooks = [dict(type='ReplayHook')]  # in a config with model.replay and train_cfg.cycle
        >>> HOOKS.build(custom_hooks[0]).priority
        'HIGH'
    """

    priority = 'HIGH'  # the teachers may be needed by the checks of other hooks

    def before_train(self, runner: Runner) -> None:
        """Open the store."""
        distiller = self._distiller = unwrapped_distiller(runner, type(self).__name__)
        if distiller.replay is None:
            raise ValueError("ReplayHook needs a replay to set up; give the model replay=dict(folder='...')")
        loader = runner.train_dataloader
        cycle = getattr(loader.sampler, 'cycle', None)
        if cycle is None:
            raise ValueError(
                'a replay needs epochs that repeat; set train_cfg=dict(type=ResumableTrainLoop, cycle=...) to the '
                'number of epochs after which they do'
            )
        self.cycle: int = cycle
        self._check_partners(distiller.augmentation, loader)
        _check_hooks(runner.hooks)
        self._transforms = _transforms(loader.dataset)
        if skip_counters(loader.dataset):
            raise ValueError(
                'a replay needs the same images in every round, and the pipeline of train_dataloader replaces broken '
                "ones; take them out of the data, and broken='skip' out of LoadImageFromFile"
            )
        self._check_sampler(loader.sampler)
        loader.dataset.note_inputs()
        trial = loader.dataset.try_out()
        if trial.changing:
            raise ValueError(f'a replay needs images that repeat with their draws: {changing_draws(trial)}')
        data = fingerprint(loader.dataset)
        made_from = dict(data=data['sha256'], pipeline=_describe_pipeline(runner, loader.dataset))
        if distiller.augmentation is not None and distiller.augmentation.mixes_images:
            sampler = loader.sampler.sampler  # which draws the partners
            if (sampler.seed, sampler.shuffle) != (runner.seed, True):
                made_from['pairing'] = f'seed {sampler.seed}, shuffle {sampler.shuffle}'
        if distiller.step.targets.engine.dtype is None:
            engine = distiller.made_from()['teacher_engine']
            made_from['teacher_engine'] = f'{engine} in {_arithmetic(runner, distiller)}'
        differences = distiller.open_replay(made_from, runner.seed, data['images'], self.cycle)
        store = distiller.replay.store
        if differences:
            runner.logger.warning(
                f'The teacher logits in {str(store.root)!r} were made from something else ({", ".join(differences)}): '
                'they are not used, and new ones are made.'
            )
        if store.outdated:
            runner.logger.warning(
                'The teacher logits in '
                f'{", ".join(str(folder) for folder in store.outdated)} were written by another version of r2kd_mm '
                '(0.1.0 kept no checksum of the images): they are not used, and new ones are made; delete these '
                'folders to free their space.'
            )
        self._check_images(runner, distiller, trial)
        self._changed = 0
        runner.logger.info(
            f'Replay of teacher logits in {str(store.folder)!r}: {len(store.description["complete_rounds"])} of '
            f'{self.cycle} rounds are complete, {store.bytes_needed / 1e6:.1f} MB in all.'
        )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Stop where another hook has changed how images are prepared, of which the stored logits know nothing."""
        augments = getattr(self._distiller.data_preprocessor, 'batch_augments', None)
        transforms = _transforms(runner.train_dataloader.dataset)
        pairs = zip(transforms, self._transforms)
        if augments is not None or any(now is not then and describe(now) != describe(then) for now, then in pairs):
            raise ValueError(f'in epoch {runner.epoch + 1} a hook changed {_SWITCHED}')

    def after_train_epoch(self, runner: Runner) -> None:
        """Note that the images of this epoch have all been asked for, and say how many had changed."""
        store = _replay(self._distiller).store
        store.complete(runner.epoch % self.cycle)
        changed = torch.tensor(store.num_changed)
        all_reduce(changed)
        if changed > self._changed:
            runner.logger.warning(
                f'In epoch {runner.epoch + 1}, {int(changed) - self._changed} images were not those that the stored '
                'teacher logits had been made for: the teachers were asked again.'
            )
        self._changed = int(changed)

    def _check_sampler(self, sampler: SeededSampler) -> None:
        """Refuse a sampler that gives an image several times in one round."""
        for number in range(self.cycle if sampler.may_repeat else 0):
            sampler.set_epoch(number)
            if any(index.copy for index in sampler):
                raise ValueError(REPEATED_IMAGES)

    def _check_images(self, runner: Runner, distiller: LogitDistiller, trial: Trial) -> None:
        """Compare the images of the trial with those that complete rounds were made for."""
        store = _replay(distiller).store
        images = list(trial.checksums)
        changed = store.count_changed('clean', 0, images, [trial.checksums[image] for image in images])
        if changed and store.description['complete_rounds']:
            runner.logger.warning(
                f'{changed} of {len(images)} training images are not those that the stored teacher logits were made '
                'for, so the data or what reads them changed: all rounds are gone through again, and the teachers are '
                'asked for the images that changed.'
            )
            store.forget_rounds()
            if not distiller.teachers:
                distiller.load_teachers()

    def _check_partners(self, augmentation: BatchAugmentation | None, loader: Any) -> None:
        if augmentation is None or not augmentation.mixes_images:
            return
        sampler = loader.sampler.sampler  # inside the SeededSampler
        if not isinstance(sampler, PairedSampler) or loader.batch_size % 2:
            raise ValueError(
                f'with a replay, the partner that {type(augmentation).__name__} mixes into an image must not depend on '
                'the batch; give train_dataloader sampler=dict(type=PairedSampler) and an even batch_size, got '
                f'{type(sampler).__name__} and {loader.batch_size}'
            )


@torch.no_grad()
def fill_store(runner: Runner) -> None:
    """Ask the teachers for all logits of a replay: go through the training images of every round, as training would."""
    model = unwrapped_distiller(runner, 'tools/cache_teacher.py')
    loader = runner.train_loop.dataloader
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    hook = ReplayHook()
    hook.before_train(runner)
    store = _replay(model).store
    rounds = [number for number in range(hook.cycle) if number not in store.description['complete_rounds']]
    progress = ProgressBar(len(rounds) * len(loader)) if rounds and runner.rank == 0 else None
    for number in rounds:
        loader.sampler.set_epoch(number)
        for batch in loader:
            # the arithmetic of --amp, for an engine that leaves it to the run
            with runner.optim_wrapper.optim_context(model):
                data = model.data_preprocessor(batch, training=True)
                views = model.step.make_views(data['inputs'], model.step.views.names, data['data_samples'])
                model.step.targets(views, data['data_samples'])
            if progress:
                progress.update()
        store.complete(number)
    runner.logger.info(f'{len(rounds)} rounds were made, {hook.cycle} are complete in {str(store.folder)!r}.')


def _replay(distiller: LogitDistiller) -> Replay:
    assert distiller.replay is not None  # ReplayHook has asked for it
    return distiller.replay


def _check_hooks(hooks: Sequence[Hook]) -> None:
    """Refuse hooks that change the pipeline or the batch augmentations in the middle of a run."""
    for hook in hooks:
        kinds = {cls.__name__ for cls in type(hook).__mro__}
        recipes = getattr(hook, 'schedule', {}).values() if 'SwitchRecipeHook' in kinds else ()
        if kinds & SWITCHES or any(not SWITCHED_PARTS.isdisjoint(recipe) for recipe in recipes):
            raise ValueError(f'{type(hook).__name__} changes {_SWITCHED}')


def _arithmetic(runner: Runner, distiller: LogitDistiller) -> torch.dtype:
    """In what the optimizer wrapper has a network compute that does not say so itself, such as bf16 by ``--amp``."""
    one = torch.ones(1, 1, device=next(distiller.parameters()).device)
    with torch.no_grad(), runner.optim_wrapper.optim_context(distiller):
        return one.mm(one).dtype


def _describe_pipeline(runner: Runner, dataset: Dataset) -> str:
    """Describe how the images are prepared: the transforms, and the fields of the data sets in the config."""
    prefix = 'train_dataloader.dataset.'
    fields = {
        name: value
        for name, value in config_fields(runner.cfg.pretty_text).items()
        if name.startswith(prefix) and not name.endswith('.data_root')  # the data may have been moved
    }
    return describe([_transforms(dataset), fields])


def _transforms(dataset: Dataset) -> list[Any]:
    """The transforms of the data sets that read images."""
    names = ('pipeline', 'transform', 'transforms')
    return [getattr(inner, name) for inner in innermost_datasets(dataset) for name in names if hasattr(inner, name)]
