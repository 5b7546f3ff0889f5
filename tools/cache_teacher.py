"""Ask the teachers of a config for all logits that its replay will need, before training."""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it mends what the Runner meets when it starts

import argparse

import torch
from mmengine.runner import Runner
from mmengine.utils import ProgressBar

from r2kd_mm.engine import clear_errors
from r2kd_mm.engine.run_config import add_run_arguments, load_run_config
from r2kd_mm.hooks import ReplayHook
from r2kd_mm.hooks.schedules import unwrapped_distiller


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_run_arguments(parser)
    return parser.parse_args()


@torch.no_grad()
def fill(runner: Runner) -> None:
    """Go through the training images of every round, as training would."""
    model = unwrapped_distiller(runner, 'tools/cache_teacher.py')
    loader = runner.train_loop.dataloader
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    hook = ReplayHook()
    hook.before_train(runner)
    store = model.replay.store
    rounds = [number for number in range(hook.cycle) if number not in store.description['complete_rounds']]
    progress = ProgressBar(len(rounds) * len(loader)) if rounds and runner.rank == 0 else None
    for number in rounds:
        loader.sampler.set_epoch(number)
        for batch in loader:
            # the arithmetic of --amp, for an engine that leaves it to the run
            with runner.optim_wrapper.optim_context(model):
                data = model.data_preprocessor(batch, training=True)
                model.fill_replay(data['inputs'], data['data_samples'])
            if progress:
                progress.update()
        store.complete(number)
    runner.logger.info(f'{len(rounds)} rounds were made, {hook.cycle} are complete in {str(store.folder)!r}.')


def main() -> None:
    """Build the Runner of the config, and fill its store."""
    args = parse_args()
    with clear_errors():
        cfg = load_run_config(args)
        fill(Runner.from_cfg(cfg))


if __name__ == '__main__':
    main()
