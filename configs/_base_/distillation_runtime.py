# What every distillation shares: the default runtime, and a look at the teacher before it teaches.
from mmengine.config import read_base

with read_base():
    from .default_runtime import *

from r2kd_mm.hooks import TeacherCheckHook

custom_hooks.append(dict(type=TeacherCheckHook))
