# R2KD: Kim et al., IEEE TKDE 2024, with CutMix. The constants are CFG.R2KD and CFG.PRUNE in mdistiller/engine/cfg.py of
# github.com/Seonghak35/R2KD, and the augmentations of mdistiller/distillers/R2KD.py there.
from r2kd_mm.augmentations import CutMix
from r2kd_mm.distillers import R2KD
from r2kd_mm.losses import CorrelationDistanceLoss, RankDistanceLoss
from r2kd_mm.pruning import MagnitudePruner

model = dict(
    type=R2KD,
    pruner=dict(type=MagnitudePruner, amount=0.1),
    teacher_weight=0.7,
    augmentation=dict(type=CutMix, alpha=1.0),
    losses=dict(
        loss_value=dict(type=CorrelationDistanceLoss, temperature=4.0, loss_weight=2.0),
        loss_rank=dict(type=RankDistanceLoss, loss_weight=2.0),
    ),
)
