# DKD: Zhao et al., arXiv 2203.08679. The settings are those of most of its CIFAR-100 runs, CFG.DKD in
# mdistiller/engine/cfg.py of github.com/megvii-research/mdistiller. Each run has a file there,
# configs/cifar100/dkd/*.yaml or configs/imagenet/*/dkd.yaml; a config of ours names it where beta or temperature is
# different. The warm-up of 20 epochs is a hook of the run. On ImageNet the authors warm up for 1 epoch: no hook.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import DKDLoss

model = dict(
    type=LogitDistiller,
    losses=dict(loss_dkd=dict(type=DKDLoss, temperature=4.0, alpha=1.0, beta=8.0)),
)
