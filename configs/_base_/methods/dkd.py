# DKD (Zhao et al., arXiv 2203.08679), with the settings of most of its CIFAR-100 runs; its warm-up of 20 of 240 epochs
# is a hook that the run adds.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import DKDLoss

model = dict(
    type=LogitDistiller,
    losses=dict(loss_dkd=dict(type=DKDLoss, temperature=4.0, alpha=1.0, beta=8.0)),
)
