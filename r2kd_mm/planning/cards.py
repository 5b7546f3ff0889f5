"""List memory size, bandwidth and peak FLOP/s of GPUs, and compute the minimum time that operators take on a GPU."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from r2kd_mm.planning.trace import Operator

TERA, GIGA = 10**12, 10**9
UNITS = dict(KB=10**3, MB=10**6, GB=GIGA, TB=TERA, KIB=2**10, MIB=2**20, GIB=2**30, TIB=2**40)


@dataclass(frozen=True)
class Card:
    """Memory size, bandwidth and peak FLOP/s of a GPU, for dense (not sparse) operations.

    Attributes:
        title: Name of the GPU.
        memory: Size of the memory in bytes.
        bandwidth: Memory bandwidth in bytes per second.
        float32: Peak FLOP/s in float32.
        tf32: Peak FLOP/s in TF32, which PyTorch uses for float32 convolutions; ``None`` if the GPU has no TF32.
        fp16: Peak FLOP/s in float16 with float32 accumulation.
        bf16: Peak FLOP/s in bfloat16; ``None`` if the GPU has no bfloat16.

    Example:
        >>> find_card('t4').bandwidth
        320000000000
    """

    title: str
    memory: float
    bandwidth: float
    float32: float
    tf32: float | None
    fp16: float
    bf16: float | None

    def rate(self, operator: Operator) -> float:
        """Return the operations a second for one operator."""
        if operator.dtype == torch.bfloat16:
            return self.bf16 or self.float32
        if operator.dtype == torch.float16:
            return self.fp16
        return self.tf32 if operator.is_convolution and self.tf32 else self.float32

    def arithmetic(self, operators: Iterable[Operator]) -> float:
        """Return the seconds of the arithmetic alone, at the peak."""
        return sum(operator.flops / self.rate(operator) for operator in operators)

    def roofline(self, operators: Iterable[Operator]) -> float:
        """Return the seconds of operators that run one after the other, each at the roofline."""
        return sum(max(operator.flops / self.rate(operator), operator.bytes / self.bandwidth) for operator in operators)


def _card(
    title: str, memory: float, bandwidth: float, float32: float, tf32: float | None, fp16: float, bf16: float | None
) -> Card:
    """Take GB, GB/s and TFLOPS."""
    return Card(
        title,
        memory * GIGA,
        bandwidth * GIGA,
        float32 * TERA,
        None if tf32 is None else tf32 * TERA,
        fp16 * TERA,
        None if bf16 is None else bf16 * TERA,
    )


# Dense figures of NVIDIA's data sheets: "NVIDIA V100", "T4", "A10", "A100", "L4", "L40S", "H100" and "H200 Tensor Core
# GPU"; for GeForce, appendix A of "NVIDIA Ampere GA102" and "Ada GPU Architecture". Where a data sheet states a figure
# with sparsity alone, this is half of it. Most of the data sheets could not be opened here. These pages confirm them:
#   V100  https://developer.nvidia.com/programming-tensor-cores-cuda-9-0 (fp16)
#   T4    https://sysrqmts.com/gpus/compare/nvidia-a100-sxm4-40-gb-vs-nvidia-tesla-t4
#   A10   https://sysrqmts.com/ru/gpus/compare/nvidia-a10-pcie-vs-nvidia-quadro-rtx-4000 (float32 and GB/s)
#   A100  https://glennklockwood.com/garden/processors/A100, after nvidia-a100-datasheet-us-nvidia-1758950-r4-web.pdf
#   L4    https://store.sourcecode.com/en-us/bg-bucket-compare/125/9820 (GB/s, TF32),
#         https://grokipedia.com/page/NVIDIA_L4_vs_L40S (fp16), and the page of GeForce (float32)
#   L40S  https://www.mullet.se/product.html?product_id=355414
#   H100  https://archive-lib.hpctech.co.jp/gpuproduct/nvidia-h100.html, https://glennklockwood.com/garden/processors/h100
#   H200  https://aiwiki.ai/wiki/nvidia_h200/raw: memory and GB/s; the arithmetic is that of the H100
#   GeForce  https://calwoo.github.io/notes/concepts/deep-learning-engineering/nvidia-gpu-hardware (float32; 4090: fp16)
# Confirmed by no page: V100 float32 and GB/s; A10 TF32 and fp16; GeForce TF32 and GB/s; 3090 fp16.
#               title               GB   GB/s  float32  TF32   fp16   bf16
CARDS = {
    'v100': _card('V100 SXM2 32 GB', 32, 900, 15.7, None, 125, None),
    'v100-16gb': _card('V100 SXM2 16 GB', 16, 900, 15.7, None, 125, None),
    't4': _card('T4', 16, 320, 8.1, None, 65, None),
    'a10': _card('A10', 24, 600, 31.2, 62.5, 125, 125),
    'a100': _card('A100 SXM 80 GB', 80, 2039, 19.5, 156, 312, 312),
    'a100-40gb': _card('A100 SXM 40 GB', 40, 1555, 19.5, 156, 312, 312),
    'l4': _card('L4', 24, 300, 30.3, 60, 121, 121),
    'l40s': _card('L40S', 48, 864, 91.6, 183, 362, 362),
    'h100': _card('H100 SXM', 80, 3350, 67, 494.7, 989.4, 989.4),
    'h100-pcie': _card('H100 PCIe', 80, 2000, 51, 378, 756, 756),
    'h200': _card('H200 SXM', 141, 4800, 67, 494.7, 989.4, 989.4),
    'rtx3090': _card('GeForce RTX 3090', 24, 936, 35.6, 35.6, 71, 71),
    'rtx4090': _card('GeForce RTX 4090', 24, 1008, 82.6, 82.6, 165.2, 165.2),
}


def find_card(name: str) -> Card:
    """Return the card of this name; ``'cuda'`` is the GPU of this machine.

    Raises:
        ValueError: There is no such card, or no GPU.

    Example:
        >>> find_card('RTX 4090').title
        'GeForce RTX 4090'
        >>> find_card('h10')
        Traceback (most recent call last):
        ...
        ValueError: no card is called 'h10'; did you mean h100 or a10? Known cards: ...
    """
    key = _key(name)
    if re.fullmatch(r'cuda(:\d+)?', key):
        return _present(name)
    found = {_key(known): card for known, card in CARDS.items()}.get(key)
    if found is not None:
        return found
    close = difflib.get_close_matches(name.lower(), CARDS, n=3)
    hint = f'did you mean {" or ".join(filter(None, [", ".join(close[:-1]), close[-1]]))}? ' if close else ''
    raise ValueError(
        f'no card is called {name!r}; {hint}Known cards: {", ".join(CARDS)}. For another, give --flops, --bandwidth '
        'and --memory'
    )


def _present(name: str) -> Card:
    """Return the GPU of this machine, with the peak figures of the table."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    place = int(name.partition(':')[2] or 0)
    if place >= count:
        raise ValueError(
            f'--device {name}: PyTorch sees {count or "no"} GPU{"s" if count > 1 else ""} here; name a card, such as '
            '--device h100'
        )
    properties = torch.cuda.get_device_properties(place)
    words = properties.name.lower()
    fitting = {known: card for known, card in CARDS.items() if _is_of_model(words, known)}
    on_pcie = {known: card for known, card in fitting.items() if known.endswith('-pcie') == ('pcie' in words)}
    if not fitting:
        raise ValueError(
            f'no peak figures of the {properties.name} are known; give --flops, --bandwidth and --memory. '
            f'Known cards: {", ".join(CARDS)}'
        )
    # of several models, such as two sizes of memory, the one with the nearest memory
    nearest = min((on_pcie or fitting).values(), key=lambda card: abs(card.memory - properties.total_memory))
    return Card(**{**vars(nearest), 'title': properties.name, 'memory': properties.total_memory})


def _is_of_model(words: str, known: str) -> bool:
    """Tell whether a GPU is of the model of a card: an L40 is no L4, and half a card has no peak figures here."""
    model = known.partition('-')[0].replace('rtx', 'rtx ')
    return re.search(rf'\b{model}\b', words) is not None and not re.search(r'\b(laptop|max-q|mig)\b', words)


def _key(name: str) -> str:
    return re.sub(r'[\s_-]', '', name.lower())


def read_bytes(text: str) -> float:
    """Read a size of memory; GB is 10**9 bytes, GiB 2**30.

    Raises:
        ValueError: It is none.

    Example:
        >>> read_bytes('80GB'), read_bytes('1 GiB')
        (80000000000.0, 1073741824.0)
    """
    found = re.fullmatch(r'\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B)\s*', text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise ValueError(f'a size of memory is a number above 0 with a unit, such as 80GB or 16GiB, got {text!r}')
    return float(found[1]) * UNITS[found[2].upper()]
