"""Describe, for a warning or error, which losses, buffers and logits of an optimizer step are NaN or infinite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Iteration:
    """One training iteration: its number (from 1), batch, losses, and logits by (view, network)."""

    number: int
    batch: dict
    logits: dict[tuple[str, str], Tensor]
    losses: dict[str, Tensor]

    @property
    def culprits(self) -> list[str]:
        """The logits that are not finite."""
        return [
            f'the {network} logits of the {view} images'
            for (view, network), logits in self.logits.items()
            if not logits.isfinite().all()
        ]

    @property
    def bad_losses(self) -> list[str]:
        """The losses that are not finite."""
        return [name for name, value in self.losses.items() if not value.isfinite()]

    @property
    def paths(self) -> list[str | None]:
        """The image files, where there are any."""
        return [sample.get('img_path') for sample in self.batch['data_samples']]

    def contents(self) -> dict:
        """Return the batch as the data loader gave it, and its logits, in plain types."""
        return dict(
            inputs=self.batch['inputs'],
            labels=[sample.gt_label.tolist() for sample in self.batch['data_samples']],
            paths=self.paths,
            logits={f'{view}.{network}': logits.cpu() for (view, network), logits in self.logits.items()},
        )


def with_culprits(iterations: Sequence[Iteration]) -> list[Iteration]:
    """Return the iterations with logits that are not finite."""
    return [iteration for iteration in iterations if iteration.culprits]


def describe_fault(iterations: Sequence[Iteration], bad_buffers: list[str] | None = None) -> str:
    """Describe what is not finite.

    Args:
        iterations: Iterations of the step.
        bad_buffers: Buffers that are not finite although the gradient is; ``None`` if the gradient is not finite.
    """
    first, last = iterations[0].number, iterations[-1].number
    several = last > first
    culprits = [
        culprit + (f' in iteration {iteration.number}' if several else '')
        for iteration in iterations
        for culprit in iteration.culprits
    ]
    if bad_buffers is None:
        what = 'the gradient'
    else:
        losses = dict.fromkeys(name for iteration in iterations for name in iteration.bad_losses)
        bad = [*(f'the loss {name}' for name in losses), *(f'the buffer {name}' for name in bad_buffers)]
        what = ' and '.join(bad) or 'a loss or a buffer of another process'
    return (
        f'{what} of iteration{f"s {first} to {last}" if several else f" {last}"} is not finite'
        f'{"; nor are " + " and ".join(culprits) if culprits else ", though all logits are"}'
    )
