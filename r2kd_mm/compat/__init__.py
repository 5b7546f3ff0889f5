"""Patch faults of mmengine 0.10.7, mmcv-lite 2.1.0, mmpretrain 1.2.0 and mmrazor 1.0.0 on PyTorch 2.1 to 2.14.

mmengine, mmpretrain and mmrazor have no newer releases. So each file here patches one package at run time. A patch is
called a cure. Each cure is one function, and its docstring names the symptom. Where possible, a cure tests for the
fault first, and changes nothing if the fault is absent. :data:`CURES` maps the name of a module to its cures. They run
when the module is imported, or at once if it is imported already. A module is never imported only to be patched.
``docs/stack.md`` lists the faults and the versions that have them.
"""

from __future__ import annotations

from collections.abc import Callable

from r2kd_mm.compat import mmcv, mmengine, mmengine_runner, mmpretrain, mmrazor, torchvision
from r2kd_mm.compat.mmpretrain import MisnamedClasses
from r2kd_mm.import_hook import Load, Wrapper, wrap_import
from r2kd_mm.moved import old_names

__all__ = ['CURES', 'MisnamedClasses', 'apply']


def apply() -> None:
    """Run each cure when its module is imported, or now if the module is imported already; a second call does nothing.

    Example:
        >>> apply()  # as ``import r2kd_mm`` does
    """
    for name, cures in CURES.items():
        for cure in cures:
            wrap_import(name, cure)


def _after(cure: Callable[[], None]) -> Wrapper:
    """Load the module, then apply the cure."""

    def load_and_cure(load: Load) -> None:
        load()
        cure()

    return load_and_cure


CURES: dict[str, tuple[Wrapper, ...]] = {
    'torchvision': (torchvision.declare_missing_torchvision_operators,),
    'mmcv': (_after(mmcv.shift_hue_backwards),),
    'mmcv.cnn.bricks.transformer': (mmcv.ignore_missing_operators,),
    'mmengine.config': (
        _after(mmengine.know_builtin_modules_by_name),
        _after(mmengine.name_configs_by_package),
        _after(mmengine.import_configs_by_package),
        _after(mmengine.lay_out_configs_once),
    ),
    'mmengine.model': (_after(mmengine.count_averages_as_changes),),
    'mmengine.model.weight_init': (_after(mmengine_runner.say_what_was_pretrained),),
    'mmengine.logging': (_after(mmengine.log_without_waiting),),
    'mmengine.optim': (_after(mmengine.refuse_unread_paramwise_options), _after(mmengine.clip_without_waiting)),
    'mmengine.runner': (
        _after(mmengine_runner.load_checkpoints_safely),
        _after(mmengine_runner.say_what_was_loaded),
        _after(mmengine_runner.save_checkpoints_plainly),
        _after(mmengine_runner.give_each_start_its_folder),
    ),
    'mmengine.hooks': (_after(mmengine.keep_averaged_weights),),
    'mmpretrain.engine': (_after(mmpretrain.name_averaged_weights), _after(mmpretrain.keep_colours_of_pictures)),
    'mmpretrain.datasets': (_after(mmpretrain.refuse_misnamed_classes),),
    'mmpretrain.models': (_after(mmpretrain.keep_wrapped_weights), _after(mmpretrain.copy_batches_without_waiting)),
    'mmrazor.structures.quantization.backend_config': (mmrazor.leave_out_quantization,),
    'mmrazor.models.quantizers.native_quantizer': (mmrazor.leave_out_quantization,),
    'mmrazor.structures.graph.channel_flow': (mmrazor.keep_recursion_limit,),
    'mmrazor.models.task_modules.tracer.fx_tracer': (mmrazor.keep_recursion_limit,),
    'mmrazor.models.task_modules.predictor.metric_predictor': (mmrazor.put_off_rare_imports,),
    'mmrazor.models.task_modules.predictor.handler.carts_handler': (mmrazor.put_off_rare_imports,),
    'mmrazor.models.distillers.ofd_distiller': (mmrazor.put_off_rare_imports,),
    'mmrazor.visualization.local_visualizer': (mmrazor.put_off_rare_imports,),
    'mmrazor.models.task_modules.recorder': (_after(mmrazor.record_copies),),
    'mmrazor.models.algorithms': (
        _after(mmrazor.switch_off_inplace_again),
        _after(mmrazor.return_self_from_train),
        _after(mmrazor.resume_pruning),
    ),
    'mmrazor.models.distillers': (_after(mmrazor.refuse_untrained_losses),),
    'mmrazor.models.mutators': (_after(mmrazor.begin_dmcp_above_zero),),
}

__getattr__ = old_names(__name__)
