"""Wrap a model in MMEngine's DistributedDataParallel, on a GPU or on the CPU, and unwrap it."""

import inspect
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from r2kd_mm.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class PortableDistributedDataParallel(MMDistributedDataParallel):
    """MMEngine's data-parallel wrapper, for modules on a GPU or on the CPU and for any version of PyTorch.

    It fixes two errors. The Runner always passes ``device_ids``, which PyTorch refuses for a module on the CPU
    (``ValueError: DistributedDataParallel device_ids ... only work with ... GPU modules``). And MMEngine uses the old
    name of a flag that PyTorch 2.13 renamed (``FutureWarning: broadcast_buffers is deprecated``).

    A config needs the scope in the name, ``dict(type='r2kd_mm.PortableDistributedDataParallel')``, because the Runner
    looks up the wrapper in the root registry.

    Args:
        module: The model of this process.
        device_ids: GPU of this process, as the Runner passes it; ignored for a module on the CPU.
        sync_buffers: Copy the buffers of rank 0 to all ranks before each forward pass. The Runner passes False: each
            rank keeps its own batch-norm statistics, and ``SyncBuffersHook`` averages them once per epoch.
        find_unused_parameters: Set this if a forward pass leaves parameters of the student without gradient.
        detect_anomalous_params: Log the parameters without gradient; slow, for debugging.

    Example:
        >>> from torch import distributed
        >>> distributed.init_process_group('gloo', store=distributed.HashStore(), rank=0, world_size=1)
        >>> wrapped = PortableDistributedDataParallel(nn.Linear(2, 3), device_ids=[0])  # on the CPU
        >>> wrapped.device_ids, wrapped.module
        (None, Linear(in_features=2, out_features=3, bias=True))
        >>> distributed.destroy_process_group()
    """

    def __init__(
        self,
        module: nn.Module,
        device_ids: list[int | torch.device] | None = None,
        sync_buffers: bool = False,
        find_unused_parameters: bool = False,
        detect_anomalous_params: bool = False,
    ) -> None:
        on_cpu = all(parameter.device.type == 'cpu' for parameter in module.parameters())
        super().__init__(
            module=module,
            device_ids=None if on_cpu else device_ids,
            find_unused_parameters=find_unused_parameters,
            detect_anomalous_params=detect_anomalous_params,
            **{_sync_buffers_argument(): sync_buffers},
        )


def unwrapped_model(runner: Runner) -> nn.Module:
    """Return the model of a runner without its data-parallel wrapper.

    Example:
        >>> from r2kd_mm.zoo import build_classifier
        >>> model = build_classifier('cifar/resnet8', num_classes=10)
        >>> unwrapped_model(Runner(model, 'one_process', default_scope='r2kd_mm', log_level='ERROR')) is model
        True
    """
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def _sync_buffers_argument() -> str:
    known: Any = inspect.signature(DistributedDataParallel).parameters
    return 'forward_sync_buffers' if 'forward_sync_buffers' in known else 'broadcast_buffers'
