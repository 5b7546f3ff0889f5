"""Compare int8 students that are quantised after training or during training, with and without a teacher, on digits.

All students are the ResNet-6 of ``configs/supervised/res6_digits.py``, without ``zero_init_residual``, which fake
quantisation cannot take. Each learns for 200 epochs from random weights; with fake quantisation, ranges and batch norm
are frozen for the last 50. One student learns from the float student of seed 0. Train the teacher first:
``python tools/train.py configs/supervised/res14_digits.py``. Needs ``pip install 'r2kd_mm[executorch]'``. Keep
``--jobs 1``: the float student comes before the run that it teaches. A second call resumes.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what the Runner meets when it starts

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config
from on_digits import ROOT, Results, compare_on_digits

from r2kd_mm.export import export_student
from r2kd_mm.runs import Method, Result, Run, last_checkpoint

ALONE, KD, R2KD = (
    ROOT / 'configs' / name
    for name in ('supervised/res6_digits.py', 'kd/kd_res14_res6_digits.py', 'r2kd/r2kd_res14_res6_digits.py')
)
FLOAT = {'alone, float32': ALONE, 'KD, float32': KD, 'R2KD, float32': R2KD}
BASELINE = 'alone, int8 after training'
FREEZE_IN = 150  # of 200 epochs


def methods(teacher: Path, runs: Path) -> list[Method]:
    """Return the float students and those with fake quantisation."""
    found = [Method(name, str(config), _options(config, teacher)) for name, config in FLOAT.items()]
    learned = {'alone, int8 while training': ALONE, 'KD, int8 while training': KD, 'R2KD, int8 while training': R2KD}
    found += [Method(name, str(config), _quantised(config, teacher)) for name, config in learned.items()]
    own_float = runs / found[0].folder_name / 'seed_0' / 'epoch_200.pth'
    taught = {**_quantised(R2KD, own_float), 'model.teacher': {**_student(ALONE), '_delete_': True}}
    return [*found, Method('R2KD from the float student, int8 while training', str(R2KD), taught)]


def after_training(results: Results, runs: list[Run]) -> Results:
    """Quantise the float students to int8, and return their accuracies as further rows."""
    found: Results = {}
    for run in runs:
        result = results[run.method].get(run.seed)
        if run.method.name in FLOAT and result is not None:
            method = replace(run.method, name=run.method.name.replace('float32', 'int8 after training'))
            with tempfile.TemporaryDirectory() as folder:
                made = export_student(
                    last_checkpoint(run), Path(folder) / 'int8', 'exported', precision='int8', max_drop=100
                )
            assert made.measured is not None
            accuracy = made.measured.accuracy['int8'].top1
            found.setdefault(method, {})[run.seed] = Result(result.epochs[-1:], [accuracy], {}, result.seconds)
    return found


def _student(config: Path) -> dict[str, Any]:
    model = Config.fromfile(config).model
    student = model.get('architecture', model).to_dict()
    return {**student, 'backbone': {**student['backbone'], 'zero_init_residual': False}}


def _options(config: Path, teacher: Path) -> dict[str, Any]:
    if config == ALONE:
        return {'model.backbone.zero_init_residual': False}
    return {'model.architecture.backbone.zero_init_residual': False, 'model.teacher_ckpt': str(teacher)}


def _quantised(config: Path, teacher: Path) -> dict[str, Any]:
    student = dict(type='FakeQuantizedClassifier', classifier=_student(config), image_shape=(1, 8, 8), _delete_=True)
    hooks = [*Config.fromfile(config).get('custom_hooks', ()), dict(type='FreezeQuantizationHook', begin=FREEZE_IN)]
    place = {'model': student} if config == ALONE else {'model.architecture': student}
    return {**place, 'custom_hooks': hooks, **({} if config == ALONE else {'model.teacher_ckpt': str(teacher)})}


if __name__ == '__main__':
    compare_on_digits(__doc__, 'quantised', BASELINE, methods, after_training)
