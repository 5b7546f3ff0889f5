# Multi-level logit distillation: Jin et al., CVPR 2023. Its three levels on clean images, with the weights of KD, as in
# mdistiller/engine/cfg.py of github.com/Jin-Ying/Multi-Level-Logit-Distillation. We leave out its strongly augmented
# view, which is made for colour photographs.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import MLKDLoss

model = dict(type=LogitDistiller, task_loss_weight=0.1, losses=dict(loss_mlkd=dict(type=MLKDLoss, loss_weight=0.9)))
