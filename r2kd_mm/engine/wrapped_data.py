"""Look up the transforms, sample information and channel order (RGB or BGR) of a data set.

Wrappers such as ``ConcatDataset`` are searched for the data sets in them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from types import NoneType
from typing import Any

REGISTERED = ('mmcv', 'mmengine', 'mmpretrain', 'mmrazor', 'r2kd_mm', 'torch')  # packages whose types go by their names
LOADER = 'LoadImageFromFile'  # mmcv's and ours give BGR
PACKER = 'PackInputs'


def short_types(value: Any) -> Any:
    """Replace the full path in each ``type`` of a config by the class name, which OpenMMLab's registries accept.

    Only types of OpenMMLab, torch and this package are shortened; other types keep their full path.

    Example:
        >>> short_types(dict(type='mmpretrain.datasets.RandomCrop', crop_size=32))
        {'type': 'RandomCrop', 'crop_size': 32}
    """
    if isinstance(value, dict):
        return {key: short_name(item) if key == 'type' else short_types(item) for key, item in value.items()}
    return type(value)(map(short_types, value)) if isinstance(value, (list, tuple)) else value


def short_name(kind: str | type) -> str:
    """Return the name of a type without its module, see :func:`short_types`."""
    path = kind if isinstance(kind, str) else f'{kind.__module__}.{kind.__qualname__}'
    return path.rsplit('.', 1)[-1] if path.split('.', 1)[0] in REGISTERED else path


def innermost_datasets(dataset: Any) -> list[Any]:
    """Find the data sets that read the images: this one, or all that it wraps at any depth, each once.

    Args:
        dataset: Config of a data set, or a data set.
    """
    members = _field(dataset, 'datasets') or [_field(dataset, 'dataset')]
    wrapped = [member for member in members if not isinstance(member, (str, NoneType))]
    if _field(dataset, 'pipeline') is not None or not wrapped:
        return [dataset]
    found = [inner for member in wrapped for inner in innermost_datasets(member)]
    return list({id(inner): inner for inner in found}.values())


def data_info(dataset: Any, index: int) -> dict[str, Any]:
    """Return the information on a sample without loading it; empty if the data set has none.

    Args:
        dataset: Data set in MMEngine's format, or torch's ``Subset`` or ``ConcatDataset`` of such data sets.
        index: Index of the sample, >= 0.
    """
    if hasattr(dataset, 'get_data_info'):
        return dataset.get_data_info(index)
    if hasattr(dataset, 'cumulative_sizes'):
        return info_in_member(dataset, index)
    if hasattr(dataset, 'indices') and hasattr(dataset, 'dataset'):
        return data_info(dataset.dataset, dataset.indices[index])
    return {}


def info_in_member(dataset: Any, index: int) -> dict[str, Any]:
    """Return the information on a sample of joined data sets from the one that it is in, see :func:`data_info`.

    Args:
        dataset: torch's ``ConcatDataset``.
        index: Index of the sample, >= 0.
    """
    place = bisect_right(dataset.cumulative_sizes, index)
    return data_info(dataset.datasets[place], index - (dataset.cumulative_sizes[place - 1] if place else 0))


def shared_pipeline(dataloader: Mapping[str, Any], name: str = 'the data loader') -> list[dict[str, Any]]:
    """Return the transforms of each image of a data loader, with their types as names.

    Args:
        dataloader: Config of the data loader.
        name: Name of the data loader for the user.

    Raises:
        ValueError: The data sets in it prepare their images differently, or one has no pipeline.
    """
    members = innermost_datasets(dataloader.get('dataset') or {})
    pipelines = [member.get('pipeline') for member in members]
    types = [short_name(member.get('type', 'a data set without a type')) for member in members]
    if None in pipelines:
        raise ValueError(
            f'nobody knows how {name} prepares its images: the config of {types[pipelines.index(None)]} has no '
            'pipeline; write its pipeline into the config'
        )
    pipelines = [short_types([dict(step) for step in pipeline]) for pipeline in pipelines]
    other = next((place for place, pipeline in enumerate(pipelines) if _differ(pipeline, pipelines[0])), None)
    if other is not None:
        raise ValueError(
            f'the data sets of {name} do not prepare their images alike: number 0 ({types[0]}) by '
            f'{_listed(pipelines[0])}, number {other} ({types[other]}) by {_listed(pipelines[other])}; give the config '
            'with one of them only'
        )
    return pipelines[0]


def gives_bgr(dataloader: Mapping[str, Any], normalise: Mapping[str, Any]) -> bool:
    """Tell whether a run's normalised images are BGR; files are read as BGR, data in memory are RGB.

    Args:
        dataloader: Config of the data loader.
        normalise: Config of the data preprocessor, which may exchange the channels; empty for the images before it.

    Raises:
        ValueError: Some images are read from files, and others are held in memory.
    """
    members = innermost_datasets(dataloader.get('dataset') or {})
    from_files = {_reads_files(member) for member in members}
    if len(from_files) > 1:
        raise ValueError(
            'some data sets of the data loader read files, as BGR, and others hold RGB images, so their channels are '
            'not in one order; read all of them from files, or none'
        )
    return from_files.pop() != flips_channels(normalise)


def data_preprocessor_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of the data preprocessor of a run, wherever it is stated.

    The Runner prefers the model's data preprocessor to the run's. If a distillation states neither, the student's is
    used.

    Args:
        run: Config of the run.
    """
    model = run['model']
    if not model.get('data_preprocessor') and run.get('data_preprocessor'):
        model = run
    while not model.get('data_preprocessor') and model.get('architecture'):
        model = model['architecture']
    return {'type': 'mmpretrain.ClsDataPreprocessor', **(model.get('data_preprocessor') or {})}


def flips_channels(normalise: Mapping[str, Any]) -> bool:
    """Tell whether a data preprocessor of mmpretrain or MMEngine exchanges red and blue."""
    return any(normalise.get(name, False) for name in ('to_rgb', 'bgr_to_rgb', 'rgb_to_bgr'))


def _field(dataset: Any, name: str) -> Any:
    return dataset.get(name) if isinstance(dataset, Mapping) else getattr(dataset, name, None)


def _reads_files(dataset: Any) -> bool:
    pipeline = _field(dataset, 'pipeline') or ()
    steps = getattr(pipeline, 'transforms', pipeline)  # a data set holds a Compose
    kinds = [step['type'] if isinstance(step, Mapping) else type(step) for step in steps]
    return any(short_name(kind) == LOADER for kind in kinds)


def _differ(pipeline: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> bool:
    """Tell whether two pipelines make different pixels; the place of files and broken files do not matter."""

    def decisive(steps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        ignored = ('broken', 'backend_args', 'file_client_args', 'meta_keys')
        return [{key: value for key, value in step.items() if key not in ignored} for step in steps]

    return decisive(pipeline) != decisive(other)


def _listed(pipeline: Sequence[dict[str, Any]]) -> str:
    steps = [
        ' '.join([str(step['type']), *(f'{key}={value}' for key, value in step.items() if key != 'type')])
        for step in pipeline
    ]
    return ', '.join(steps) or 'nothing'


def skip_counters(dataset: Any) -> list:
    """Find the transforms of ``dataset``, or of the data sets in it, that leave out and count broken images."""
    wrapped = getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    inner = [counter for part in wrapped if part is not None for counter in skip_counters(part)]
    return inner or [transform for transform in transforms if getattr(transform, 'num_skipped', None) is not None]
