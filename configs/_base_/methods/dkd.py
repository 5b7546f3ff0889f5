# DKD (Zhao et al., arXiv 2203.08679), with the settings of most of its CIFAR-100 runs: CFG.DKD in
# mdistiller/engine/cfg.py of github.com/megvii-research/mdistiller. A run whose file there, configs/cifar100/dkd/*.yaml
# or configs/imagenet/*/dkd.yaml, has another beta or temperature says so. The warm-up of 20 epochs is a hook that the
# run adds; on ImageNet it is 1 epoch there, which is none.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import DKDLoss

model = dict(
    type=LogitDistiller,
    losses=dict(loss_dkd=dict(type=DKDLoss, temperature=4.0, alpha=1.0, beta=8.0)),
)
