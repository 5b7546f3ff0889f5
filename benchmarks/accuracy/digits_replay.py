"""Compare students taught by stored teacher logits with students whose teachers run in every step, on digits.

The stored logits repeat after 1, 4 or 16 epochs. One more variant (``joint_views``) runs the student on clean and
augmented images in one batch. The images are scikit-learn's handwritten digits. All other settings are those of
``configs/r2kd/r2kd-replay_res14_res6_digits.py``. Train the teacher first:
``python tools/train.py configs/supervised/res14_digits.py``. A second call resumes.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what the Runner meets when it starts

from pathlib import Path

from on_digits import ROOT, compare_on_digits

from r2kd_mm.runs import Method

REPLAY = ROOT / 'configs' / 'r2kd' / 'r2kd-replay_res14_res6_digits.py'
LIVE = ROOT / 'configs' / 'r2kd' / 'r2kd_res14_res6_digits.py'
BASELINE = 'live teachers, a box for each image'
CYCLES = (1, 4, 16)


def methods(teacher: Path, runs: Path) -> list[Method]:
    """Return the variants. The first is the baseline: it draws its views like a replay but never repeats a draw."""
    live = {
        BASELINE: {'model.augmentation.per_image': True, 'train_dataloader.sampler.type': 'r2kd_mm.PairedSampler'},
        'live teachers, a box for each batch': {},
        'live teachers, joint student views': {
            'model.augmentation.per_image': True,
            'train_dataloader.sampler.type': 'r2kd_mm.PairedSampler',
            'model.joint_views': True,
        },
    }
    replayed = {
        f'replay, cycle {cycle}': {'train_cfg.cycle': cycle, 'model.replay.folder': str(runs / 'store')}
        for cycle in CYCLES
    }
    return [
        Method(name, str(config), {'model.teacher_ckpt': str(teacher), **options})
        for config, group in ((LIVE, live), (REPLAY, replayed))
        for name, options in group.items()
    ]


if __name__ == '__main__':
    compare_on_digits(__doc__, 'digits_replay', BASELINE, methods)
