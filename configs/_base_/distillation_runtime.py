# Shared by every distillation: the default runtime, and checks of the teacher, the losses and the gradients.
from mmengine.config import read_base

with read_base():
    from .default_runtime import *

from r2kd_mm.hooks import FiniteCheckHook, GradientCheckHook, TeacherCheckHook

custom_hooks.append(dict(type=GradientCheckHook))
custom_hooks.append(dict(type=FiniteCheckHook))
custom_hooks.append(dict(type=TeacherCheckHook))  # last, so that a pair finds it as custom_hooks[-1]
