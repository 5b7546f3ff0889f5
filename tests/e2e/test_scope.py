"""With ``default_scope='r2kd_mm'`` alone, a Runner imports this package and finds all names of the config."""

import subprocess
import sys

import pytest
import toolbox

SCRIPT = """
import sys
from mmengine.runner import Runner
assert 'r2kd_mm' not in sys.modules

network = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, in_channels=1, stem_channels=4, base_channels=4, num_stages=1,
                  strides=(1,), dilations=(1,), out_indices=(0,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=4),
)
data = dict(type='Digits', split='train', train_size=100, pipeline=[dict(type='PackInputs')])
runner = Runner(
    model=dict(type='LogitDistiller', architecture=network, teacher=network, allow_untrained_teacher=True,
               losses=dict(loss_kd=dict(type='KLDivergenceLoss'))),
    data_preprocessor=dict(type='ClsDataPreprocessor', mean=[77.9], std=[95.9]),
    train_dataloader=dict(dataset=data, batch_size=50, sampler=dict(type='DefaultSampler', shuffle=True)),
    train_cfg=dict(by_epoch=True, max_epochs=1),
    optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
    log_processor=dict(type='LogProcessor'),  # what has r2kd_mm imported before torchvision
    default_scope='r2kd_mm',
    work_dir=sys.argv[1],
)
runner.train()
from mmrazor.models.algorithms import SingleTeacherDistill
print('trained', runner.iter, 'cured', hasattr(SingleTeacherDistill.train, '__wrapped__'))
"""


@pytest.mark.slow
def test_a_runner_that_only_has_our_scope_trains_with_every_cure(tmp_path):
    process = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        env=toolbox.environment(),
        timeout=toolbox.TIMEOUT,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == 'trained 2 cured True'
