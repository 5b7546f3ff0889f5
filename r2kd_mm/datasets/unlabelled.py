"""Join labelled and unlabelled images into one data set; on unlabelled images, only the teacher gives a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.structures import BaseDataElement
from torch.utils.data import ConcatDataset, Dataset

from r2kd_mm.engine.wrapped_data import info_in_member
from r2kd_mm.labels import NO_LABEL, UNLABELLED
from r2kd_mm.registry import DATASETS


@DATASETS.register_module()
class WithUnlabelled(ConcatDataset):
    """Labelled data set, followed by images whose labels are unknown or not used.

    In a distillation, the unlabelled images count in the losses between student and teacher, but not in the student's
    own loss. :class:`~r2kd_mm.engine.UnlabelledShareSampler` fills a fixed share of each batch with them::

        train_dataloader=dict(
            batch_size=32,
            dataset=dict(
                type=WithUnlabelled,
                dataset=dict(type=ImageFolder, data_root='photos', split='train', pipeline=pipeline),
                unlabelled=[dict(type=CustomDataset, data_root='more', with_label=False, pipeline=pipeline)]),
            sampler=dict(type=UnlabelledShareSampler, batch_size=32, share=0.5))

    Labels in the unlabelled data sets are dropped.

    Attributes:
        metainfo: Meta information of the labelled data set, such as its classes.
        num_labelled: Number of labelled images; they come first.

    Args:
        dataset: The labelled data set, config or object.
        unlabelled: The unlabelled data sets; each pipeline ends in ``PackInputs`` too.

    Raises:
        ValueError: ``unlabelled`` is empty, or its data sets hold no image.

    Example:
        >>> from r2kd_mm.datasets import ImageFolder
        >>> parts = [ImageFolder('data/imagenet', split) for split in ('train', 'val')]
        >>> dataset = WithUnlabelled(parts[0], unlabelled=[parts[1]])
        >>> dataset.num_labelled, len(dataset)
        (12, 20)
    """

    def __init__(self, dataset: dict | Dataset, unlabelled: Sequence[dict | Dataset]) -> None:
        if not unlabelled:
            raise ValueError('unlabelled of WithUnlabelled must have at least one data set, got none')
        built: list[Any] = [DATASETS.build(part) if isinstance(part, dict) else part for part in (dataset, *unlabelled)]
        super().__init__(built)
        self.metainfo = getattr(built[0], 'metainfo', {})
        self.num_labelled = len(built[0])
        if len(self) == self.num_labelled:
            raise ValueError('the data sets in unlabelled of WithUnlabelled have no image; add some, or leave them out')

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Return what is known of a sample without loading it; of one without a label, that it has none."""
        info = info_in_member(self, index)
        if index < self.num_labelled:
            return info
        return {**{name: value for name, value in info.items() if not name.startswith('gt_')}, UNLABELLED: True}

    def __getitem__(self, index: int) -> Any:
        """Load a sample; the label of an unlabelled one is :data:`~r2kd_mm.labels.NO_LABEL`.

        Raises:
            TypeError: The sample is not as ``PackInputs`` makes it.
        """
        sample = super().__getitem__(index)
        if index < self.num_labelled:
            return sample
        known = sample.get('data_samples') if isinstance(sample, dict) else None
        if not isinstance(known, BaseDataElement):
            raise TypeError(
                f'WithUnlabelled takes samples as PackInputs makes them, got a {type(sample).__name__} without a data '
                'sample; let the pipelines of unlabelled end in PackInputs'
            )
        unlabelled = known.new(data={})
        unlabelled.set_gt_label(NO_LABEL)
        unlabelled.set_field(True, UNLABELLED, field_type='metainfo')
        return dict(sample, data_samples=unlabelled)
