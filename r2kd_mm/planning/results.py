"""Format the estimated cost of a training step as a report.

The report compares the config as given with variants, such as mixed precision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from r2kd_mm.planning.cards import GIGA, Card
from r2kd_mm.planning.trace import Operator

AS_CONFIGURED = 'as configured'
MOST_IMAGES = 65536  # where the search for the largest batch ends
LISTED = 0.001  # of the memory at the peak
TIMES = ['ms at the peak', 'ms at the roofline']


@dataclass(frozen=True)
class Needs:
    """Estimated cost of a training step in one setting, such as mixed precision.

    Attributes:
        batch_size: Number of images in one forward pass.
        memory: Peak memory in bytes.
        by_part: Memory of each part of the step at this peak, in bytes.
        operators: Operators of one batch and one optimizer update.
        most: Highest memory of each part alone, at any time of the step, in bytes.
        largest: Largest batch that fits the GPU; 0 if none fits, ``None`` if the memory size is unknown.
        failure: Reason why the setting is not possible; empty if it is possible.
    """

    batch_size: int
    memory: float = 0
    by_part: Mapping[str, float] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    most: Mapping[str, float] = field(default_factory=dict)
    largest: int | None = None
    failure: str = ''


@dataclass(frozen=True)
class Plan:
    """Needs of a step of a config, in several settings.

    Attributes:
        name: Name of the config.
        image_size: Height and width, in pixels.
        needs: What each setting needs, by its name; that of the config is the first.
        card: What it runs on, or ``None``.
        memory: Bytes of the card, or ``None``.
        replay: Bytes of the replay store on disk for one image, or ``None``.
        num_images: Size of the training set, or ``None``.
        notes: What the plan leaves out.
    """

    name: str
    image_size: int
    needs: dict[str, Needs]
    card: Card | None
    memory: float | None
    replay: int | None
    num_images: int | None
    notes: list[str]

    @property
    def problem(self) -> str:
        """Return why the step does not fit the memory; empty where it does, or where no memory is known."""
        asked = self.needs[AS_CONFIGURED]
        if self.memory is None or asked.memory <= self.memory:
            return ''
        smaller = f'the largest batch is {asked.largest}' if asked.largest else 'not even a batch of 2 does'
        ways = [
            f'{name} needs {_size(needs.memory)}'
            for name, needs in self.needs.items()
            if not needs.failure and needs.memory <= self.memory
        ]
        return (
            f'a batch of {asked.batch_size} does not fit: it needs {_size(asked.memory)}, and there are '
            f'{_size(self.memory)}; {smaller}. {"; ".join(ways) or "No other setting that was tried fits"}'
        )

    def to_markdown(self) -> str:
        """Format the plan."""
        asked = self.needs[AS_CONFIGURED]
        where = f' on {self.card.title}' if self.card else ''
        lines = [
            f'# {self.name}: {asked.batch_size} images of {self.image_size} x {self.image_size}{where}',
            '',
            *self._parts(asked),
            '',
            *_table(['memory at the peak', ''], _memory_rows(asked)),
            '',
            *self._settings(),
        ]
        if self.replay is not None:
            whole = f', {_size(self.replay * self.num_images)} for all' if self.num_images else ''
            lines += ['', f'The replay takes {self.replay / 1000:.1f} kB on disk for each training image{whole}.']
        lines += ['', *(f'- {note}.' for note in self.notes)]
        return '\n'.join(lines)

    def _parts(self, asked: Needs) -> list[str]:
        flops: Counter[str] = Counter()
        moved: Counter[str] = Counter()
        operators: dict[str, list[Operator]] = {}
        for operator in asked.operators:
            flops[operator.part] += operator.flops
            moved[operator.part] += operator.bytes
            operators.setdefault(operator.part, []).append(operator)
        head = ['part of a step', 'GFLOP', 'read and written', 'most memory']
        parts = sorted(operators, key=lambda part: -moved[part])
        rows = [
            [part, _rounded(flops[part] / GIGA), _size(moved[part]), _size(asked.most.get(part, 0))] for part in parts
        ]
        rows.append(['all', _rounded(flops.total() / GIGA), _size(moved.total()), ''])
        if self.card:
            head += TIMES
            for row, ran in zip(rows, [*(operators[part] for part in parts), asked.operators]):
                row += self._times(ran)
        return _table(head, rows)

    def _settings(self) -> list[str]:
        head = ['setting', 'images at once', 'peak']
        head += ['largest batch'] * (self.memory is not None)
        head += TIMES if self.card else []
        rows = []
        for name, needs in self.needs.items():
            row = [name, str(needs.batch_size), needs.failure or _size(needs.memory)]
            if self.memory is not None and not needs.failure:
                row.append(
                    {None: '', 0: 'none', MOST_IMAGES: f'{MOST_IMAGES} or more'}.get(
                        needs.largest or 0, str(needs.largest)
                    )
                )
            if self.card and not needs.failure:
                row += self._times(needs.operators)
            rows.append(row + [''] * (len(head) - len(row)))
        return _table(head, rows)

    def _times(self, operators: list[Operator]) -> list[str]:
        assert self.card is not None
        return [_rounded(1e3 * self.card.arithmetic(operators)), _rounded(1e3 * self.card.roofline(operators))]


def _memory_rows(needs: Needs) -> list[list[str]]:
    listed = {part: size for part, size in needs.by_part.items() if size >= LISTED * needs.memory}
    rows = [[part, _size(size)] for part, size in sorted(listed.items(), key=lambda item: -item[1])]
    return [*rows, ['all', _size(needs.memory)]]


def _size(number: float) -> str:
    """Format bytes.

    >>> _size(2.5e9), _size(300)
    ('2.5 GB', '0.0003 MB')
    """
    return f'{_rounded(number / GIGA)} GB' if number >= GIGA else f'{_rounded(number / 1e6)} MB'


def _rounded(number: float) -> str:
    return f'{number:.3g}' if number < 1000 else f'{number:.0f}'


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ['| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *rows)]
