# DIST: Huang et al., NeurIPS 2022, arXiv 2205.10536. Weights and temperature are those of the paper for small images,
# T = 4; on images of 224 pixels T is 1. The authors' code, lib/models/losses/kd_loss.py of
# github.com/hunto/image_classification_sota, has both weights at 1 and a kd_loss_weight for each run.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import DISTLoss

model = dict(
    type=LogitDistiller,
    losses=dict(loss_dist=dict(type=DISTLoss, temperature=4.0, inter_weight=2.0, intra_weight=2.0)),
)
