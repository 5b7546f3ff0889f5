# DIST (Huang et al., NeurIPS 2022, arXiv 2205.10536), weights and temperatures as in its paper: T = 4 on small images,
# 1 on ImageNet. Its code, lib/models/losses/kd_loss.py of github.com/hunto/image_classification_sota, has both weights
# at 1, times a kd_loss_weight that each run sets.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import DISTLoss

model = dict(
    type=LogitDistiller,
    losses=dict(loss_dist=dict(type=DISTLoss, temperature=4.0, inter_weight=2.0, intra_weight=2.0)),
)
