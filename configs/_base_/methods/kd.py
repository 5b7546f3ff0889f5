# Knowledge distillation: Hinton et al., arXiv 1503.02531. 0.1 CE + 0.9 KL at T = 4, as CFG.KD in
# mdistiller/engine/cfg.py of github.com/megvii-research/mdistiller.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss

model = dict(
    type=LogitDistiller,
    task_loss_weight=0.1,
    losses=dict(loss_kd=dict(type=KLDivergenceLoss, temperature=4.0, loss_weight=0.9)),
)
