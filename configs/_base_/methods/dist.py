# DIST (Huang et al., NeurIPS 2022, arXiv 2205.10536): T = 4 on small images, 1 on ImageNet.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import DISTLoss

model = dict(
    type=LogitDistiller,
    losses=dict(loss_dist=dict(type=DISTLoss, temperature=4.0, inter_weight=2.0, intra_weight=2.0)),
)
