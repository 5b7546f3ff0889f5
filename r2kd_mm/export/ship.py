"""Export students in several formats and precisions, and recommend one file.

The recommendation compares accuracy, file size and latency of all exports, measured on this machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from r2kd_mm.engine.resume import POINTER
from r2kd_mm.export.export import export_student, network_bytes
from r2kd_mm.export.formats import FLOAT32, FORMATS, require_packages
from r2kd_mm.export.images import validation_images
from r2kd_mm.export.measurement import MAX_DROP, SCORED_IMAGES, measure
from r2kd_mm.export.network import ExportError
from r2kd_mm.export.student import load_student

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from r2kd_mm.export.measurement import Measurement

NOTICED = 0.05  # share by which a file must be smaller or faster than that of float32 to count


@dataclass(frozen=True)
class Target:
    """Export target: a format and a precision, written as ``format-precision``.

    >>> Target.read('onnx-int8')
    Target(format='onnx', precision='int8')
    """

    format: str
    precision: str

    @classmethod
    def read(cls, text: str) -> Target:
        """Read the text of a target.

        Raises:
            ValueError: There is no such target.
            ImportError: A package that it needs is missing.
        """
        name, _, precision = text.partition('-')
        if name not in FORMATS or precision not in (FLOAT32, *FORMATS[name].precisions):
            raise ValueError(f'the target must be one of {", ".join(all_targets())}, got {text!r}')
        require_packages(name, to_write=True, precision=precision)
        return cls(name, precision)

    def __str__(self) -> str:
        return f'{self.format}-{self.precision}'


def all_targets() -> list[str]:
    """List all targets.

    >>> all_targets()[-2:]
    ['executorch-float32', 'executorch-int8']
    """
    return [
        f'{name}-{precision}' for name, form in FORMATS.items() for precision in sorted((FLOAT32, *form.precisions))
    ]


@dataclass(frozen=True)
class Choice:
    """One file, and what was measured with it.

    Args:
        student: Name of the student.
        target: Format and precision.
        folder: Folder of the export.
        top1: Accuracy on validation images, in percent.
        low: Lower end of its 95 % interval.
        high: Upper end.
        agreement: Share of images that float32 calls the same, in percent.
        bytes: Size of the network.
        milliseconds: Median time of a call, by number of images.
        gains: What it brings against float32 in the same format: ``'size'``, ``'time'``.
    """

    student: str
    target: str
    folder: str
    top1: float
    low: float
    high: float
    agreement: float
    bytes: int
    milliseconds: Mapping[int, float]
    gains: tuple[str, ...]

    @classmethod
    def of(cls, student: str, target: Target, folder: Path, measured: Measurement) -> Choice:
        """Make the choice of a measured export."""
        name = target.precision
        accuracy = measured.accuracy[name]
        times = measured.milliseconds[name]
        smaller = measured.bytes[name] < (1 - NOTICED) * measured.bytes[FLOAT32]
        faster = measured.has_float32 and times[1] < (1 - NOTICED) * measured.milliseconds[FLOAT32][1]
        return cls(
            student,
            str(target),
            str(folder),
            accuracy.top1,
            accuracy.low,
            accuracy.high,
            measured.agreement,
            measured.bytes[name],
            times,
            tuple(['size'] * smaller + ['time'] * faster),
        )

    def beats(self, other: Choice) -> bool:
        """Return whether this file is nowhere worse than another, and somewhere better."""
        mine = (-self.top1, self.bytes, self.milliseconds[1])
        its = (-other.top1, other.bytes, other.milliseconds[1])
        return mine != its and all(ours <= theirs for ours, theirs in zip(mine, its))


@dataclass(frozen=True)
class Shipped:
    """Result of :func:`ship`.

    Args:
        choices: The files.
        refused: Reason by student and target, where there is no file.
        max_drop: How many points below the most accurate file the recommended one may be.
        zeros: Share of weights of convolutions and linear layers that are 0, by student.
    """

    choices: tuple[Choice, ...]
    refused: Mapping[str, str]
    max_drop: float
    zeros: Mapping[str, float] = field(default_factory=dict)

    @property
    def front(self) -> tuple[Choice, ...]:
        """Files that no other one beats in accuracy, size and time at once, the smallest first."""
        kept = [one for one in self.choices if not any(other.beats(one) for other in self.choices)]
        return tuple(sorted(kept, key=lambda choice: choice.bytes))

    @property
    def recommended(self) -> Choice:
        """The fastest file for one image that is at most ``max_drop`` points below the most accurate one."""
        best = max(choice.top1 for choice in self.choices)
        good = [choice for choice in self.choices if choice.top1 >= best - self.max_drop]
        return min(good, key=lambda choice: (choice.milliseconds[1], choice.bytes))

    def table(self) -> str:
        """Return all files as a table in Markdown, then the recommendation and the refusals."""
        lines = [
            '| student | target | top-1 | agreement | bytes | 1 image | 32 images | against float32 |',
            '| --- | --- | --- | --- | --- | --- | --- | --- |',
        ]
        for choice in self.choices:
            lowered = not choice.target.endswith(FLOAT32)
            gain = (', '.join(choice.gains) or 'no gain') if lowered else ''
            lines.append(
                f'| {choice.student} | {choice.target} | {choice.top1:.2f} % ({choice.low:.1f} to {choice.high:.1f}) | '
                f'{choice.agreement:.2f} % | {choice.bytes:,} | {choice.milliseconds[1]:.3f} ms | '
                f'{choice.milliseconds[32]:.3f} ms | {gain} |'
            )
        found = self.recommended
        lines += [
            '',
            f'Recommended: {found.student} as {found.target}, the fastest for one image of those at most '
            f'{self.max_drop:g} points below the most accurate one.',
            f'Front: {", ".join(f"{choice.student} as {choice.target}" for choice in self.front)}.',
        ]
        lines += [
            f'{name}: {100 * share:.0f} % of its weights are 0; each file stores and multiplies them like '
            'other weights, so they bring no gain in size or time.'
            for name, share in self.zeros.items()
            if share > NOTICED
        ]
        return '\n'.join(lines + [f'Refused: {name}: {reason}.' for name, reason in self.refused.items()])

    def describe(self) -> dict[str, object]:
        """Return everything for a JSON file."""
        return dict(
            choices=[asdict(choice) for choice in self.choices],
            refused=dict(self.refused),
            front=[choice.folder for choice in self.front],
            recommended=self.recommended.folder,
            max_drop=self.max_drop,
            zeros=dict(self.zeros),
        )


def find_students(runs: Sequence[str | os.PathLike]) -> dict[str, Path]:
    """Return the last checkpoint of each run by a name of the run; a checkpoint is taken as it is.

    Raises:
        FileNotFoundError: There is no such checkpoint, or a folder has none.
        ValueError: Two runs would have one name.
    """
    found: dict[str, Path] = {}
    for path in map(Path, runs):
        pointer = path / POINTER
        if path.is_dir() and not pointer.is_file():
            raise FileNotFoundError(f'{str(path)!r} has no {POINTER}, so it is no run; give a checkpoint of it')
        checkpoint = path / Path(pointer.read_text()).name if path.is_dir() else path
        if not checkpoint.is_file():
            raise FileNotFoundError(f'{str(checkpoint)!r} does not exist; give the folder of a run or a checkpoint')
        name = '_'.join(checkpoint.absolute().parts[-3:-1]) if path.is_dir() else path.stem
        if name in found:
            raise ValueError(f'two students would be called {name!r}; rename one of the files')
        found[name] = checkpoint
    return found


def ship(
    students: Mapping[str, str | os.PathLike],
    targets: Sequence[str],
    out: str | os.PathLike,
    max_drop: float = MAX_DROP,
    config: str | os.PathLike | None = None,
    calibration: str | os.PathLike | None = None,
) -> Shipped:
    """Export each student to each target, and measure each file on this machine.

    The folder gets one export for each student and target, ``table.md``, ``ship.json`` and ``front.png``. A target that
    refuses a student is named with its reason; the others are made.

    Args:
        students: Checkpoint by name.
        targets: Formats and precisions, such as ``'onnx-int8'``.
        out: Folder to make.
        max_drop: How many points of accuracy a lower precision may cost.
        config: Config file of the runs; ``None`` takes the config in each checkpoint.
        calibration: Folder of images for int8; ``None`` takes the training data of each run.

    Raises:
        ValueError: A target is unknown, or all were refused.
        ImportError: A package that a target needs is missing.
        FileExistsError: ``out`` exists.
    """
    out = Path(out)
    wanted = [Target.read(text) for text in targets]  # all of them before the first export
    if out.exists():
        raise FileExistsError(f'{str(out)!r} exists; give another folder, or remove it')
    choices, refused, zeros = [], {}, {}
    for name, checkpoint in students.items():
        student = load_student(checkpoint, config)
        zeros[name] = share_of_zeros(student.network)
        for target in wanted:
            folder = out / name / str(target)
            lowered = target.precision != FLOAT32
            try:
                done = export_student(
                    checkpoint,
                    folder,
                    target.format,
                    config,
                    precision=target.precision,
                    max_drop=max_drop,
                    calibration=calibration if target.precision == 'int8' else None,
                )
            except ExportError as error:
                refused[f'{name} as {target}'] = str(error)
                continue
            measured = done.measured
            if not lowered or measured is None:
                network = FORMATS[target.format].load(folder)
                images = validation_images(student, SCORED_IMAGES)
                measured = measure(FLOAT32, {FLOAT32: network}, images, {FLOAT32: network_bytes(folder)})
            choices.append(Choice.of(name, target, folder, measured))
    if not choices:
        raise ValueError(f'every target refused the student: {"; ".join(refused.values())}')
    shipped = Shipped(tuple(choices), refused, max_drop, zeros)
    (out / 'table.md').write_text(shipped.table() + '\n', encoding='utf-8')
    (out / 'ship.json').write_text(json.dumps(shipped.describe(), indent=2) + '\n', encoding='utf-8')
    draw_front(shipped).savefig(out / 'front.png', dpi=150)
    return shipped


def share_of_zeros(network: nn.Module) -> float:
    """Return the share of zeros in the weights of convolutions and linear layers: those of two dimensions or more.

    >>> share_of_zeros(nn.Linear(4, 3))
    0.0
    """
    weights = [weight for weight in network.parameters() if weight.ndim > 1]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def draw_front(shipped: Shipped) -> Figure:
    """Draw accuracy against size and against time; a line joins the files that none beats in the panel's two."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout='constrained')
    panels = figure.subplots(1, 2, sharey=True)
    for panel, label, values in (
        (panels[0], 'bytes', [choice.bytes for choice in shipped.choices]),
        (panels[1], 'milliseconds for one image', [choice.milliseconds[1] for choice in shipped.choices]),
    ):
        accuracies = [choice.top1 for choice in shipped.choices]
        panel.errorbar(
            values,
            accuracies,
            yerr=[
                [choice.top1 - choice.low for choice in shipped.choices],
                [choice.high - choice.top1 for choice in shipped.choices],
            ],
            fmt='o',
        )
        for choice, value in zip(shipped.choices, values):
            panel.annotate(f'{choice.student} {choice.target}', (value, choice.top1), fontsize=7)
        steps = list(_front(zip(values, accuracies)))
        panel.plot(*zip(*steps), drawstyle='steps-post', alpha=0.5)
        panel.set_xscale('log')
        panel.set_xlabel(label)
    panels[0].set_ylabel('top-1 accuracy, %, with the 95 % interval of the images')
    return figure


def _front(points: Iterable[tuple[float, float]]) -> Iterable[tuple[float, float]]:
    """Yield the points that no cheaper one reaches, the cheapest first.

    >>> list(_front([(3, 9), (1, 5), (2, 4)]))
    [(1, 5), (3, 9)]
    """
    best = float('-inf')
    for cost, accuracy in sorted(points, key=lambda point: (point[0], -point[1])):
        if accuracy > best:
            best = accuracy
            yield cost, accuracy
