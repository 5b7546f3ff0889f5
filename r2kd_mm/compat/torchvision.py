"""Let torchvision be imported even if its compiled operators were built for another version of torch."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING

from r2kd_mm.import_hook import Load

if TYPE_CHECKING:
    import torch

_placeholder_libraries: list[torch.library.Library] = []  # an operator exists as long as its library object


def declare_missing_torchvision_operators(load: Load) -> None:
    """Import torchvision even if its compiled operators were built for another version of torch.

    Upstream symptom: ``RuntimeError: operator torchvision::nms does not exist`` from ``import torchvision``, which
    every Runner does. mmpretrain needs only torchvision's Python code, whose import fails only if an operator is not
    declared. So an empty declaration is enough; calling such an operator still fails. pytorch/vision #8803 and others.
    """
    import torch

    declared: list[str] = []
    while True:
        try:
            load()
            break
        except RuntimeError as error:
            missing = re.search(r'operator torchvision::(\w+) does not exist', str(error))
            if missing is None or missing.group(1) in declared:
                raise
            declared.append(missing.group(1))
            library = torch.library.Library('torchvision', 'FRAGMENT')
            library.define(f'{missing.group(1)}(Tensor input) -> Tensor')
            _placeholder_libraries.append(library)
    if declared:
        warnings.warn(
            f'torchvision was built for another torch than {torch.__version__}: its compiled operators '
            f'({", ".join(declared)}) cannot be called. Nothing in r2kd_mm calls them; install the torchvision that '
            'belongs to your torch if you do.',
            stacklevel=2,
        )
