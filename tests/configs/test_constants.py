"""The hyperparameters of each config equal those in the files of the method's authors, which the config names."""

import warnings

import pytest
import toolbox
from mmengine.config import Config

from r2kd_mm.engine.config_file import read_config
from r2kd_mm.engine.run_config import RUN_FIELDS
from r2kd_mm.hooks import LossScheduleHook

# github.com/megvii-research/mdistiller: configs/cifar100/dkd/*.yaml, configs/imagenet/*/dkd.yaml, and for what these do
# not state mdistiller/engine/cfg.py. Temperature, alpha, beta.
DKD = {
    'res110_res32_cifar100': (4, 1, 2),
    'res32x4_res8x4_cifar100': (4, 1, 8),
    'res32x4_sv1_cifar100': (4, 1, 8),
    'res32x4_sv2_cifar100': (4, 1, 8),
    'res50_mv2_cifar100': (4, 1, 8),
    'res56_res20_cifar100': (4, 1, 2),
    'vgg13_mv2_cifar100': (4, 1, 6),
    'vgg13_vgg8_cifar100': (4, 1, 6),
    'wrn402_sv1_cifar100': (4, 1, 8),
    'wrn402_wrn162_cifar100': (4, 1, 6),
    'wrn402_wrn401_cifar100': (4, 1, 6),
    'res34_res18_imagenet': (1, 1, 0.5),
    'res50_mbv1_imagenet': (1, 1, 2),
}
# github.com/sunshangquan/logit-standardization-KD: names of the files in logs/KD. Temperature, weight.
KD_LS = {
    'res110_res20_cifar100': (4, 12),
    'res110_res32_cifar100': (2, 9),
    'res32x4_res8x4_cifar100': (2, 9),
    'res32x4_sv2_cifar100': (2, 9),
    'res50_mv2_cifar100': (3, 1),
    'res56_res20_cifar100': (2, 9),
    'vgg13_mv2_cifar100': (3, 9),
    'vgg13_vgg8_cifar100': (3, 9),
    'wrn402_wrn162_cifar100': (2, 9),
    'wrn402_wrn401_cifar100': (2, 9),
}
# mdistiller: configs/cifar100/kd.yaml, configs/imagenet/*/kd.yaml and engine/cfg.py. Temperature, weights of KL and CE.
KD = {
    'res56_res20_cifar100': (4, 0.9, 0.1),
    'res34_res18_imagenet': (1, 0.5, 0.5),
    'res50_mbv1_imagenet': (1, 0.5, 0.5),
}
# github.com/Seonghak35/R2KD: mdistiller/engine/cfg.py and mdistiller/distillers/R2KD.py.
R2KD = {
    'r2kd-cutout_res56_res20_cifar100': dict(type='Cutout', length=8),
    'r2kd-cutout_res56_res20_tiny-imagenet': dict(type='Cutout', length=16),
    'r2kd-cutout_res34_res18_cub200': dict(type='Cutout', length=56),  # a quarter of 224
    'r2kd-autoaugment_res56_res20_cifar100': dict(type='AutoAugment', policy='cifar10'),
    'r2kd-autoaugment_res56_res20_tiny-imagenet': dict(type='AutoAugment', policy='imagenet'),
    'r2kd-cutmixpick_res56_res20_cifar100': dict(type='CutMixPick', alpha=1.0),
    'r2kd-mixup_res56_res20_cifar100': dict(type='Mixup', alpha=0.2),
    'r2kd_res56_res20_cifar100': dict(type='CutMix', alpha=1.0),
}


def load(method: str, name: str) -> Config:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', FutureWarning)
        return read_config(str(toolbox.ROOT / f'configs/{method}/{name}.py'), RUN_FIELDS)


def model(method: str, name: str) -> dict:
    return load(method, name).model


@pytest.mark.parametrize(('pair', 'constants'), DKD.items())
def test_dkd(pair, constants):
    loss = model('dkd', f'dkd_{pair}').losses.loss_dkd
    assert (loss.temperature, loss.alpha, loss.beta) == constants


@pytest.mark.parametrize(
    ('pair', 'ramp'), [('res32x4_sv1_cifar100', 19), ('res56_res20_tiny-imagenet', 19), ('res50_mbv1_imagenet', None)]
)
def test_dkd_warms_up_for_20_epochs_but_not_on_imagenet(pair, ramp):
    hooks = load('dkd', f'dkd_{pair}').custom_hooks
    assert [hook.ramp for hook in hooks if hook.type is LossScheduleHook] == ([] if ramp is None else [ramp])


@pytest.mark.parametrize(
    ('pair', 'temperature'),
    [('res56_res20_tiny-imagenet', 4), ('res50_mbv1_imagenet', 1), ('res34_res18_stanford-dogs', 1)],
)
def test_dist_softens_less_on_large_images(pair, temperature):
    assert model('dist', f'dist_{pair}').losses.loss_dist.temperature == temperature


@pytest.mark.parametrize('pair', ['res34_res18_imagenet', 'res50_mbv1_imagenet', 'res56_res20_cifar100'])
def test_dkd_with_cmkd_has_the_constants_of_dkd(pair):
    loss = model('cmkd', f'cmkd-dkd_{pair}').losses.loss_dkd
    assert (loss.temperature, loss.alpha, loss.beta) == DKD[pair]


@pytest.mark.parametrize(('pair', 'constants'), KD_LS.items())
def test_kd_on_standardised_logits(pair, constants):
    found = model('kd-ls', f'kd-ls_{pair}')
    loss = found.losses.loss_kd.loss
    assert (loss.temperature, loss.loss_weight, found.task_loss_weight) == (*constants, 0.1)


@pytest.mark.parametrize(('pair', 'constants'), KD.items())
def test_kd(pair, constants):
    found = model('kd', f'kd_{pair}')
    loss = found.losses.loss_kd
    assert (loss.temperature, loss.loss_weight, found.task_loss_weight) == constants


@pytest.mark.parametrize(('name', 'augmentation'), R2KD.items())
def test_r2kd(name, augmentation):
    found = model('r2kd', name)
    assert (found.pruner.amount, found.teacher_weight) == (0.1, 0.7)
    value, rank = found.losses.loss_value, found.losses.loss_rank
    assert (value.temperature, value.loss_weight, rank.loss_weight) == (4, 2, 2)
    given = dict(found.augmentation, type=found.augmentation.type.__name__)
    assert given == augmentation
