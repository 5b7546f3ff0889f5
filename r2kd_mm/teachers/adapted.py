"""Run a teacher on the student's images, resized and normalised as in the training of the teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from r2kd_mm.classifiers import classifier_logits, normalisation, num_classes
from r2kd_mm.registry import MODELS

INTERPOLATIONS = ('bicubic', 'bilinear', 'nearest')


@MODELS.register_module()
class AdaptedInputs(nn.Module):
    """Classifier that resizes and re-normalises the student's images, and picks the logits of the run's classes.

    The student's images are de-normalised to pixels, normalised for this classifier, and resized. Nothing is cropped:
    both networks see the same part of the picture. Bicubic values are not clipped to the range of pixels.

    Use it as the ``teacher`` of a :class:`~r2kd_mm.distillers.LogitDistiller`, whose data preprocessor states how the
    student's images are normalised. ``teacher_ckpt`` then holds the weights of the inner classifier::

        teacher=dict(
            type=AdaptedInputs,
            network=dict(type=TimmClassifier, model_name='convnext_tiny', num_classes=12),
            size=224, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)

    Args:
        network: Config of the classifier, or the classifier.
        size: Side of the classifier's images in pixels, or ``(height, width)``; ``None`` keeps the student's size.
        mean: Channel means of the classifier's normalisation, in units of 0 to 255.
        std: Channel standard deviations of the classifier's normalisation, in the same units.
        to_rgb: Whether the classifier takes RGB images, as in mmpretrain's ``ClsDataPreprocessor``; else BGR.
        interpolation: ``'bicubic'``, ``'bilinear'`` or ``'nearest'``; the first two average pixels (antialias) when
            they shrink an image.
        classes: Names of the classes of the run, in the order of their labels. Only the logits of these
            classes are returned, picked by name. ``None`` returns all logits.
        network_classes: Names of the classes of the classifier, in the order of its logits, or a text file with one
            name a line. ``None`` takes the names from the classifier's checkpoint.

    Raises:
        ValueError: A size, mean, deviation or interpolation is out of range, or a class of the run is unknown.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 3))
        >>> teacher = AdaptedInputs(network, size=32, classes=['cat', 'dog'], network_classes=['dog', 'owl', 'cat'])
        >>> teacher.num_classes  # the logits of cat and dog, in this order
        2
    """

    def __init__(
        self,
        network: dict | nn.Module,
        size: int | Sequence[int] | None = None,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        to_rgb: bool = True,
        interpolation: str = 'bilinear',
        classes: Sequence[str] | None = None,
        network_classes: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__()
        if interpolation not in INTERPOLATIONS:
            raise ValueError(f'interpolation of AdaptedInputs must be one of {INTERPOLATIONS}, got {interpolation!r}')
        if len(mean) not in (1, 3) or len(std) != len(mean) or min(std) <= 0:
            raise ValueError(
                'AdaptedInputs takes mean and std of 1 or 3 channels, std above 0, in units of 0 to 255, got '
                f'mean={list(mean)} and std={list(std)}'
            )
        self.size = _height_and_width(size)
        self.network = MODELS.build(network) if isinstance(network, Mapping) else network
        self.mean, self.std, self.to_rgb = tuple(mean), tuple(std), to_rgb
        self.interpolation = interpolation
        self.classes = None if classes is None else tuple(classes)
        self.network_classes = _read_names(network_classes)
        self._flips = False
        # what a view is multiplied by and what is added; None before a data preprocessor tells how it is normalised
        self.register_buffer('_scale', None, persistent=False)
        self.register_buffer('_shift', None, persistent=False)
        self.register_buffer('_columns', None, persistent=False)
        if self.network_classes:
            self.pick_classes()

    @property
    def num_classes(self) -> int | None:
        """Number of the logits; ``None`` where the classifier states none."""
        return num_classes(self.network) if self.classes is None else len(self.classes)

    def pick_classes(self, stated: Sequence[str] | None = None) -> None:
        """Find the logits of the classes of the run; all stay where the run names no classes.

        Args:
            stated: What the checkpoint of the classifier calls its classes; not asked where ``network_classes`` is set.

        Raises:
            ValueError: A class of the run is none of the classifier, or the names are not one a logit.
        """
        if self.classes is not None:
            columns = _columns(self.classes, self.network_classes or tuple(stated or ()), num_classes(self.network))
            self._columns = torch.tensor(columns)

    def take_inputs_of(self, data_preprocessor: nn.Module | None) -> None:
        """Read how the views that will come are normalised.

        Raises:
            ValueError: The data preprocessor states no normalisation.
        """
        given = normalisation(data_preprocessor)
        if data_preprocessor is None or not given:
            raise ValueError(
                'AdaptedInputs must know how the images of the run are normalised, and its data_preprocessor states '
                'no mean and std; state them there rather than in the pipeline'
            )
        # of the module itself, since normalisation() rounds
        mean, std = (getattr(data_preprocessor, name).detach().flatten().cpu().double() for name in ('mean', 'std'))
        self._flips = len(mean) == 3 and given['to_rgb'] != self.to_rgb
        if self._flips:
            mean, std = mean.flip(0), std.flip(0)
        own_mean, own_std = (torch.tensor(values, dtype=torch.float64) for values in (self.mean, self.std))
        scale, shift = torch.broadcast_tensors(std / own_std, (mean - own_mean) / own_std)
        self._scale, self._shift = (values.float().view(1, -1, 1, 1) for values in (scale, shift))

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> Tensor:
        """Logits ``(N, num_classes)`` for the normalised view of the student, shape ``(N, C, H, W)``.

        Args:
            inputs: One channel is repeated where the classifier takes three.
            mode: ``'tensor'``, as of mmpretrain's classifiers.

        Raises:
            RuntimeError: Nobody has called :meth:`take_inputs_of`.
        """
        if self._scale is None:
            raise RuntimeError('AdaptedInputs does not know yet how its inputs are normalised: call take_inputs_of')
        images = inputs.flip(1) if self._flips else inputs
        images = images * self._scale.to(images.dtype) + self._shift.to(images.dtype)
        if self.size is not None and images.shape[2:] != self.size:
            smooth = {} if self.interpolation == 'nearest' else dict(antialias=True, align_corners=False)
            images = F.interpolate(images, self.size, mode=self.interpolation, **smooth)  # the weights sum to 1
        logits = classifier_logits(self.network, images)
        return logits if self._columns is None else logits[:, self._columns]


def _height_and_width(size: int | Sequence[int] | None) -> torch.Size | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ValueError(f'size of AdaptedInputs must be a side in pixels or (height, width), got {size!r}')
    return torch.Size(sides)


def _read_names(names: Sequence[str] | str | None) -> tuple[str, ...] | None:
    if names is None or not isinstance(names, str):
        return None if names is None else tuple(names)
    path = Path(names).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'network_classes: there is no file {names!r}; give a text file with one name a line')
    return tuple(line.strip() for line in path.read_text(encoding='utf-8-sig').splitlines() if line.strip())


def _columns(wanted: Sequence[str], known: Sequence[str], count: int | None) -> list[int]:
    """The place of each wanted class among the known ones, which are the names of ``count`` logits."""
    remedy = (
        'set network_classes of AdaptedInputs to the names of its classes in the order of its logits, as the folders '
        'of the data are called, or to a text file with one a line; or fine-tune the teacher on the data'
    )
    if not known:
        raise ValueError(f'the teacher does not state the names of its classes: {remedy}')
    if count is not None and count != len(known):
        raise ValueError(f'the teacher has {count} logits, and {len(known)} names are given for them: {remedy}')
    places = {name: place for place, name in enumerate(known)}
    missing = [name for name in wanted if name not in places]
    if missing:
        raise ValueError(
            f'the teacher does not know {len(missing)} of the {len(wanted)} classes of the data: '
            f'{", ".join(map(repr, missing[:5]))}; its classes are {", ".join(map(repr, known[:5]))} '
            f'{"..." if len(known) > 5 else ""}: {remedy}'
        )
    repeated = [name for name in wanted if list(known).count(name) > 1]
    if repeated:
        raise ValueError(f'the teacher has several classes called {repeated[0]!r}: {remedy}')
    return [places[name] for name in wanted]
