"""Compare R2KD students trained with differentiable ranks, with hard ranks or without the rank loss, on digits.

The images are scikit-learn's handwritten digits. The hard ranks are those of the authors' released code. All other
settings are those of ``configs/r2kd/r2kd_res14_res6_digits.py``: value loss, pruned teacher, CutMix. Train the teacher
first: ``python tools/train.py configs/supervised/res14_digits.py``. A second call resumes.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what the Runner meets when it starts

from pathlib import Path

from on_digits import ROOT, compare_on_digits

from r2kd_mm.runs import Method

CONFIG = ROOT / 'configs' / 'r2kd' / 'r2kd_res14_res6_digits.py'
BASELINE = 'no rank term'
ESTIMATORS = ('sigmoid', 'permutahedron', 'blackbox')
WEIGHTS = (0.5, 2.0)


def methods(teacher: Path, _runs: Path) -> list[Method]:
    """Return one method for each variant; the first is the baseline without a rank term."""
    settings = {BASELINE: ('hard', 0.0), 'hard (released), weight 2': ('hard', 2.0)}
    settings.update(
        {f'{estimator}, weight {weight:g}': (estimator, weight) for estimator in ESTIMATORS for weight in WEIGHTS}
    )
    return [
        Method(
            name,
            str(CONFIG),
            {
                'model.teacher_ckpt': str(teacher),
                'model.losses.loss_rank.estimator': estimator,
                'model.losses.loss_rank.loss_weight': weight,
            },
        )
        for name, (estimator, weight) in settings.items()
    ]


if __name__ == '__main__':
    compare_on_digits(__doc__, 'digits_rank_term', BASELINE, methods)
