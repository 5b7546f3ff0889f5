"""Batch norm and ranges freeze late; tests/test_quantized.py trains with the hook."""

import pytest
import toys

from r2kd_mm.hooks import FreezeQuantizationHook


def test_a_hook_without_such_a_student_says_so(tmp_path):
    with pytest.raises(ValueError, match='begin must be an epoch, counted from 0, got -1'):
        FreezeQuantizationHook(begin=-1)
    runner = toys.runner(toys.classifier(), tmp_path, hooks=[dict(type='FreezeQuantizationHook', begin=0)])
    with pytest.raises(ValueError, match='learns with fake quantisation, and the model has none'):
        runner.train()
