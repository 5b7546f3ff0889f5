# What every distillation shares: the default runtime, and a look at the teacher before it teaches.
from mmengine.config import read_base

with read_base():
    from .default_runtime import *

from r2kd_mm.hooks import FiniteCheckHook, GradientCheckHook, TeacherCheckHook

custom_hooks.append(dict(type=GradientCheckHook))
custom_hooks.append(dict(type=FiniteCheckHook))
custom_hooks.append(dict(type=TeacherCheckHook))  # the last, so that custom_hooks[-1] of a pair is this one
