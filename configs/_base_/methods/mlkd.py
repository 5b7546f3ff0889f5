# Multi-level logit distillation (Jin et al., CVPR 2023), its three levels on the clean images, with the weights of KD,
# as in mdistiller/engine/cfg.py of github.com/Jin-Ying/Multi-Level-Logit-Distillation. Its strongly augmented view
# is made for colour photographs and is left out.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import MLKDLoss

model = dict(type=LogitDistiller, task_loss_weight=0.1, losses=dict(loss_mlkd=dict(type=MLKDLoss, loss_weight=0.9)))
