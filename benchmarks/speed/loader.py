"""Time the data loader of a config against a plain PyTorch loader with torchvision's transforms.

    python tools/dataset_converters/make_mini.py tiny_imagenet data/mini-tiny --train 100
    python benchmarks/speed/loader.py configs/r2kd/r2kd_vgg13_mv2_tiny-imagenet.py --cfg-options \\
        train_dataloader.dataset.data_root=data/mini-tiny

benchmarks/README.md says what each number means.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
import copy
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from common import (
    describe,
    interleaved,
    make_parser,
    quartiles,
    ratio,
    read_config,
    run,
    seconds,
    table,
    with_quartiles,
)
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision import transforms

from r2kd_mm.engine import SeededDataset, SeededSampler
from r2kd_mm.environment import environment
from r2kd_mm.registry import DATA_SAMPLERS, DATASETS

SEEDED, UNSEEDED, BARE = 'ours', 'ours without seeding', 'bare PyTorch'
SEED = 0
# torchvision's transform for one of the pipeline; None where BareDataset does the work itself
COUNTERPARTS: dict[str, Callable[[Any], Any]] = {
    'LoadImageFromFile': lambda _: None,
    'RandomCrop': lambda crop: transforms.RandomCrop(crop.crop_size, padding=crop.padding),
    'RandomResizedCrop': lambda crop: transforms.RandomResizedCrop(
        crop.scale, scale=crop.crop_ratio_range, ratio=crop.aspect_ratio_range
    ),
    'RandomFlip': lambda flip: transforms.RandomHorizontalFlip(flip.prob),
    'PackInputs': lambda _: transforms.PILToTensor(),
}


class BareDataset(Dataset):
    """The images of a data set, loaded without MMEngine: PIL decodes them and torchvision transforms them.

    Args:
        dataset: Whose images and transforms to take.

    Raises:
        ValueError: A transform has none that corresponds to it.
    """

    def __init__(self, dataset: BaseDataset) -> None:
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        self.samples = [(info.get('img_path'), info.get('img'), int(info['gt_label'])) for info in infos]
        steps = []
        for transform in dataset.pipeline.transforms:
            name = type(transform).__name__
            if name not in COUNTERPARTS:
                raise ValueError(f'no transform of torchvision is known here for {name}; add it to COUNTERPARTS')
            steps.append(COUNTERPARTS[name](transform))
        self.transform = transforms.Compose([step for step in steps if step is not None])

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path, array, label = self.samples[index]
        image = Image.fromarray(array.squeeze()) if path is None else Image.open(path).convert('RGB')
        return self.transform(image), label

    def __len__(self) -> int:
        return len(self.samples)


def build_loaders(cfg: Config, dataset: BaseDataset, num_workers: int) -> dict[str, DataLoader]:
    """The loader that a Runner builds, with and without the seeds of ``ResumableTrainLoop``, and the bare one."""
    persistent = num_workers > 0

    def with_runner(dataset: Any, wrap: Callable[[Any], Any]) -> DataLoader:
        dataloader = copy.deepcopy(cfg.train_dataloader)
        sampler = DATA_SAMPLERS.build(dataloader.sampler, default_args=dict(dataset=dataset, seed=SEED))
        dataloader.update(
            dataset=dataset, sampler=wrap(sampler), num_workers=num_workers, persistent_workers=persistent
        )
        return Runner.build_dataloader(dataloader, seed=SEED)

    return {
        SEEDED: with_runner(SeededDataset(dataset, SEED), SeededSampler),
        UNSEEDED: with_runner(dataset, lambda sampler: sampler),
        BARE: DataLoader(
            BareDataset(dataset),
            batch_size=cfg.train_dataloader.batch_size,
            shuffle=True,
            num_workers=num_workers,
            persistent_workers=persistent,
        ),
    }


def measure_stages(dataset: BaseDataset, batch_size: int, collate: Callable[[list], Any]) -> dict[str, float]:
    """Measure the seconds per image of each stage, one after the other in this process.

    Args:
        dataset: The data set, without seeds.
        batch_size: Images that are collated together.
        collate: Makes a batch of them.
    """
    times: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable, *args: Any) -> Any:
        start = time.perf_counter()
        result = function(*args)
        times[name] += time.perf_counter() - start
        return result

    samples = []
    for index in range(len(dataset)):
        sample = timed('sample', dataset.get_data_info, index)
        for transform in dataset.pipeline.transforms:
            sample = timed(type(transform).__name__, transform, sample)
        samples.append(sample)
    for start in range(0, len(samples), batch_size):
        timed('collate', collate, samples[start : start + batch_size])
    nothing = SeededDataset(TensorDataset(torch.empty(len(dataset))), SEED)
    for index in range(len(dataset)):
        timed('seeding', nothing.__getitem__, index)
    return {name: time / len(dataset) for name, time in times.items()}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every loader with every number of workers, and the stages."""
    cfg = read_config(args)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    dataset.full_init()
    workers = {}
    for num_workers in args.workers:
        loaders = build_loaders(cfg, dataset, num_workers)
        passes = {name: lambda loader=loader: seconds(lambda: list(loader)) for name, loader in loaders.items()}
        for one_pass in passes.values():  # starts the workers
            one_pass()
        times = interleaved(passes, args.rounds)
        workers[num_workers] = {
            name: dict(
                seconds=times[name],
                images_per_second=quartiles([len(dataset) / time for time in times[name]]),
                to_bare=ratio(times[name], times[BARE]),
            )
            for name in loaders
        }
    batch_size = cfg.train_dataloader.batch_size
    stages = measure_stages(dataset, batch_size, build_loaders(cfg, dataset, 0)[UNSEEDED].collate_fn)
    return dict(
        environment=environment(),
        command=dict(config=args.config, cfg_options=args.cfg_options, rounds=args.rounds),
        images=len(dataset),
        batch_size=batch_size,
        workers=workers,
        stages={name: dict(seconds=time, share=time / sum(stages.values())) for name, time in stages.items()},
    )


def to_markdown(result: Mapping[str, Any]) -> str:
    """Format the result as Markdown tables."""
    loaders = [
        [
            name,
            str(num_workers),
            with_quartiles(case['images_per_second'], digits=0),
            with_quartiles(case['to_bare'], 'ratio', digits=2),
        ]
        for num_workers, cases in result['workers'].items()
        for name, case in cases.items()
    ]
    stages = [
        [name, f'{1e6 * stage["seconds"]:.0f}', f'{100 * stage["share"]:.1f}']
        for name, stage in result['stages'].items()
    ]
    return '\n\n'.join(
        [
            f'`{result["command"]["config"]}`, {result["images"]} images in batches of {result["batch_size"]}, '
            f'{result["command"]["rounds"]} rounds',
            table(['loader', 'workers', 'images/s', 'time of bare'], loaders),
            table(['stage', 'us an image', 'share, %'], stages),
            describe(result['environment']),
        ]
    )


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser(__doc__, rounds=10)
    parser.add_argument(
        '--workers', type=int, nargs='+', default=[0, 2], help='numbers of data workers (default 0 and 2)'
    )
    return parser.parse_args()


if __name__ == '__main__':
    run(parse_args(), 'loader', measure, to_markdown)
