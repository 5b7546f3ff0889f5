# KD on standardised logits: Sun et al., arXiv 2403.01427. 0.1 CE + 9 KL of the z-scores at T = 2, the command in the
# README of github.com/sunshangquan/logit-standardization-KD. The authors' logs have temperature and weight in their
# names, as logs/KD/kd,vgg13,vgg8,3,9.txt; a config of ours names its log where these are different.
from r2kd_mm.distillers import LogitDistiller
from r2kd_mm.losses import KLDivergenceLoss, LogitStandardization

model = dict(
    type=LogitDistiller,
    task_loss_weight=0.1,
    losses=dict(
        loss_kd=dict(type=LogitStandardization, loss=dict(type=KLDivergenceLoss, temperature=2.0, loss_weight=9.0))
    ),
)
