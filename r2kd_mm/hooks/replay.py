"""Set up the replay of teacher logits."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from r2kd_mm.augmentations import BatchAugmentation
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.engine import PairedSampler
from r2kd_mm.engine.config_fields import config_fields
from r2kd_mm.hooks.checks import skip_counters
from r2kd_mm.hooks.record import fingerprint
from r2kd_mm.hooks.schedules import unwrapped_distiller
from r2kd_mm.registry import HOOKS


@HOOKS.register_module()
class ReplayHook(Hook):
    """Open the distiller's replay before training, and note which rounds are complete.

    A store that was made from another teacher, pruner, pipeline, data set or seed is not used: a new one is begun
    beside it, with a warning that says what differs.

    Raises:
        ValueError: The distiller has no replay; the epochs do not repeat; broken images are replaced; or the
            augmentation mixes images, and the data loader does not keep partners together.
    """

    priority = 'HIGH'  # the teachers may be needed by the checks of other hooks

    def before_train(self, runner: Runner) -> None:
        """Open the store."""
        distiller = unwrapped_distiller(runner, type(self).__name__)
        if distiller.replay is None:
            raise ValueError("ReplayHook needs a replay to set up; give the model replay=dict(folder='...')")
        loader = runner.train_dataloader
        self.cycle = getattr(loader.sampler, 'cycle', None)
        if self.cycle is None:
            raise ValueError(
                'a replay needs epochs that repeat; set train_cfg=dict(type=ResumableTrainLoop, cycle=...) to the '
                'number of epochs after which they do'
            )
        self._check_partners(distiller.augmentation, loader)
        if skip_counters(loader.dataset):
            raise ValueError(
                'a replay needs the same images in every round, and the pipeline of train_dataloader replaces broken '
                "ones; take them out of the data, and broken='skip' out of LoadImageFromFile"
            )
        data = fingerprint(loader.dataset)
        made_from = dict(data=data['sha256'], pipeline=_describe_pipeline(runner, loader.dataset))
        if distiller.augmentation is not None and distiller.augmentation.mixes_images:
            sampler = loader.sampler.sampler  # which draws the partners
            if (sampler.seed, sampler.shuffle) != (runner.seed, True):
                made_from['pairing'] = f'seed {sampler.seed}, shuffle {sampler.shuffle}'
        if distiller.teacher_engine.dtype is None:
            made_from['teacher_engine'] = f'{distiller.teacher_engine} in {_arithmetic(runner, distiller)}'
        differences = distiller.open_replay(made_from, runner.seed, data['images'], self.cycle)
        store = distiller.replay.store
        if differences:
            runner.logger.warning(
                f'The teacher logits in {str(store.root)!r} were made from something else ({", ".join(differences)}): '
                'they are not used, and new ones are made.'
            )
        runner.logger.info(
            f'Replay of teacher logits in {str(store.folder)!r}: {len(store.description["complete_rounds"])} of '
            f'{self.cycle} rounds are complete, {store.bytes_needed / 1e6:.1f} MB in all.'
        )

    def after_train_epoch(self, runner: Runner) -> None:
        """Note that the images of this epoch have all been asked for."""
        unwrapped_distiller(runner, type(self).__name__).replay.store.complete(runner.epoch % self.cycle)

    def _check_partners(self, augmentation: BatchAugmentation | None, loader: DataLoader) -> None:
        if augmentation is None or not augmentation.mixes_images:
            return
        sampler = loader.sampler.sampler  # inside the SeededSampler
        if not isinstance(sampler, PairedSampler) or loader.batch_size % 2:
            raise ValueError(
                f'with a replay, the partner that {type(augmentation).__name__} mixes into an image must not depend on '
                'the batch; give train_dataloader sampler=dict(type=PairedSampler) and an even batch_size, got '
                f'{type(sampler).__name__} and {loader.batch_size}'
            )


def _arithmetic(runner: Runner, distiller: LogitDistiller) -> torch.dtype:
    """In what the optimizer wrapper has a network compute that does not say so itself, such as bf16 by ``--amp``."""
    one = torch.ones(1, 1, device=next(distiller.parameters()).device)
    with torch.no_grad(), runner.optim_wrapper.optim_context(distiller):
        return one.mm(one).dtype


def _describe_pipeline(runner: Runner, dataset: Dataset) -> str:
    """How the images are prepared: what the config says, since transforms do not print all of their arguments."""
    prefix = 'train_dataloader.dataset.'
    fields = {
        name: value
        for name, value in config_fields(runner.cfg.pretty_text).items()
        if name.startswith(prefix) and not name.endswith('.data_root')  # the data may have been moved
    }
    return f'{getattr(dataset, "pipeline", None)} {sorted(fields.items())}'
