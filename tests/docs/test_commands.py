"""Run every command and Python block of the documents, in a folder with the files that a reader would have.

A new command needs a line in :data:`COMMANDS`: the options that make it short. A command that needs eight GPUs, a
cluster or a download has a line that names what is tested instead.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import converters
import documents
import pytest
import toolbox
import torch
from mmengine.config import Config

from r2kd_mm.zoo import build_classifier, revert_state_dict


@dataclass(frozen=True)
class Short:
    """Run the command as it stands, with something appended that only makes it short.

    Attributes:
        options: For ``--cfg-options``.
        arguments: Other arguments.
    """

    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()

    def complete(self, command: str) -> str:
        """The command line that is run."""
        options = self.options
        if options and '--cfg-options' not in command:
            options = ('--cfg-options', *options)
        return shlex.join((*shlex.split(command), *options, *self.arguments))


@dataclass(frozen=True)
class Launches:
    """Run the command where ``program`` only writes down its arguments, which must have ``arguments``, in order."""

    program: str
    arguments: str


@dataclass(frozen=True)
class Covered:
    """Do not run the command: ``test`` does what it does, and ``why`` it cannot be run here."""

    test: str
    why: str


EPOCH = ('train_cfg.max_epochs=1', 'train_cfg.val_interval=1', 'default_hooks.checkpoint.interval=1')
UNTRAINED = ('model.teacher_ckpt=None', 'model.allow_untrained_teacher=True')
IN_PROCESS = tuple(
    f'{loader}_dataloader.{field}'
    for loader in ('train', 'val', 'test')
    for field in ('num_workers=0', 'persistent_workers=False')
)
SMALL_IMAGES = (
    *IN_PROCESS,
    'train_dataloader.batch_size=20',
    *(f'{loader}_dataloader.dataset.pipeline.1.scale=32' for loader in ('train', 'val', 'test')),
    *(f'{loader}_dataloader.dataset.pipeline.2.crop_size=32' for loader in ('val', 'test')),
)
TEN_CLASSES = ('model.architecture.head.num_classes=10', 'model.teacher.head.num_classes=10')
SMALL_REPLAY = ('train_cfg.cycle=1',)
FEW = tuple(f'{loader}_dataloader.dataset.indices=20' for loader in ('train', 'val'))
TINY = (*EPOCH, *IN_PROCESS, 'train_dataloader.batch_size=6', 'val_evaluator.topk=1,')
GLYPHS = (*EPOCH, *IN_PROCESS, *(f'{loader}_dataloader.dataset.size=100' for loader in ('train', 'val', 'test')))

digits = Short(EPOCH)
digits_again = Short(EPOCH, ('--overwrite',))  # a stand-in, or a page that a reader meets later, was there first
one_seed = Short(EPOCH, ('--seeds', '0'))
flagship = Short((*EPOCH, *SMALL_IMAGES, *FEW, *TEN_CLASSES, *UNTRAINED))
TESTED = f'torch=={version("torch").partition("+")[0]}\n' in (toolbox.ROOT / 'requirements/tested.txt').read_text()
installs = Short(arguments=('--dry-run', '--no-deps', '--no-index', '--disable-pip-version-check'))
PINS_TEST = 'tests/test_makefile.py::test_the_pins_of_torch_and_torchvision_belong_together'
pins = installs if TESTED else Covered(PINS_TEST, 'another torch is installed')
shown = Short(arguments=('-n',))  # make prints what it would do
as_it_stands = Short()

IMAGENET = 'configs/r2kd/r2kd_res50_mbv1_imagenet.py'
R2KD = 'configs/r2kd/r2kd_res14_res6_digits.py'
TRAIN = 'python tools/train.py'
TEST = 'python tools/test.py'
EXPORT = 'python tools/model_converters/export_student.py'
BROWSE = 'python tools/browse_augmentations.py'
MIM = 'tests/e2e/test_mim.py'
MIXUP = 'r2kd-mixup_res56_res20_cifar100.py'
MINI_TINY = ' '.join(f'{loader}_dataloader.dataset.data_root=data/mini-tiny' for loader in ('train', 'val', 'test'))
MINI_IMAGENET = MINI_TINY.replace('mini-tiny', 'mini-imagenet')
CIFAR_METHODS = [*((name, name) for name in ('kd', 'kd-ls', 'dkd', 'dist')), ('cmkd', 'cmkd-dkd'), ('r2kd', 'r2kd')]
HALVES = 'val_dataloader.dataset.indices=500 test_dataloader.dataset.indices=-997'
TUNE = 'tests/runs/test_tuning.py::test_a_command_tunes_and_its_second_call_continues'
COMMANDS = {
    # README
    'make demo': shown,
    'make test': shown,
    'pip install -r requirements/tested.txt': pins,
    # a build in an environment of its own downloads setuptools
    'pip install -e .': Short(arguments=('--no-build-isolation', *installs.arguments)),
    "pip install -e '.[photos]'": Short(arguments=('--no-build-isolation', *installs.arguments)),
    'python tools/check_env.py': as_it_stands,
    f'{TRAIN} {IMAGENET}': flagship,
    f'tools/dist_train.sh {IMAGENET} 8': Launches(
        'python', f'--nnodes=1 --nproc_per_node=8 {IMAGENET} --launcher pytorch'
    ),
    f'{TRAIN} {IMAGENET} --resume': flagship,
    f'{TRAIN} {IMAGENET} --work-dir work_dirs/amp --amp --cfg-options model.teacher_engine=fast '
    'model.channels_last=True': flagship,
    f'{TEST} {IMAGENET} work_dirs/r2kd_res50_mbv1_imagenet/epoch_100.pth': flagship,
    f'{EXPORT} work_dirs/run/epoch_100.pth exports/student --format onnx': as_it_stands,
    'python tools/predict.py exports/student photos --top 3': as_it_stands,
    'python tools/dataset_converters/make_mini.py imagenet data/mini-imagenet': as_it_stands,
    f'{TRAIN} {IMAGENET} --work-dir work_dirs/mini --auto-scale-lr --cfg-options '
    f'{MINI_IMAGENET} '
    'model.architecture.head.num_classes=10 model.teacher.head.num_classes=10 model.teacher_ckpt=None '
    'model.allow_untrained_teacher=True train_dataloader.batch_size=16 train_cfg.max_epochs=2 '
    'default_hooks.logger.interval=1': Short((*EPOCH, *SMALL_IMAGES, *FEW)),
    'python tools/dataset_converters/prepare_tiny_imagenet.py tiny-imagenet-200.zip data/tiny_imagenet': Short(
        arguments=('--contents', *converters.CONTENTS)
    ),
    'python tools/model_converters/convert_zoo_checkpoint.py tiny/vgg13 vgg13_vanilla.pth '
    'checkpoints/tiny-imagenet/vgg13.pth': as_it_stands,
    f'{TRAIN} configs/supervised/vgg13_tiny-imagenet.py': Short((*TINY, 'model.num_classes=4')),
    f'{TRAIN} configs/r2kd/r2kd_vgg13_mv2_tiny-imagenet.py': Short(
        (*TINY, 'model.architecture.num_classes=4', 'model.teacher.num_classes=4', *UNTRAINED)
    ),
    'python tools/dataset_converters/make_mini.py tiny_imagenet data/mini-tiny': as_it_stands,
    f'{TRAIN} configs/supervised/vgg13_tiny-imagenet.py --work-dir work_dirs/mini-teacher --cfg-options '
    f'{MINI_TINY} '
    'model.num_classes=10 optim_wrapper.optimizer.lr=0.01 train_cfg.max_epochs=4': Short((*EPOCH, *IN_PROCESS, *FEW)),
    f'{TRAIN} configs/r2kd/r2kd_vgg13_mv2_tiny-imagenet.py --work-dir work_dirs/mini-student --cfg-options '
    f'{MINI_TINY} '
    'model.architecture.num_classes=10 model.teacher.num_classes=10 '
    'model.teacher_ckpt=work_dirs/mini-teacher/epoch_4.pth train_cfg.max_epochs=2': Short(
        (*EPOCH, *IN_PROCESS, *FEW, 'model.allow_untrained_teacher=True')
    ),
    # CONTRIBUTING
    'make lint test': shown,
    'make test-all': shown,
    'make STACK=oldest test': shown,
    'make STACK=newest test': shown,
    'make docs': shown,
    'make format': shown,
    'make hooks': shown,
    'make coverage': shown,
    'make coverage TESTS=tests/losses': shown,
    'docker build -t r2kd_mm .': Covered('tests/test_repository.py::test_the_image_builds', 'it takes a docker daemon'),
    'docker run --rm --gpus all r2kd_mm': Covered(
        'tests/test_repository.py::test_the_image_builds', 'it takes a docker daemon'
    ),
    'git grep -n OWNER:': Covered(
        'tests/test_repository.py::test_the_places_that_wait_for_the_owner_are_known', 'a copy has no history'
    ),
    '.venv/bin/python -m pytest -q tests/losses': Covered(
        'tests/losses/test_base.py::*', 'it is part of this very run'
    ),
    # docs/get_started.md
    'source .venv/bin/activate': Covered(
        'tests/e2e/test_demo.py::*', 'the tests run in that environment, whatever its name'
    ),
    f'{TRAIN} configs/supervised/res14_digits.py': digits_again,
    f'{TRAIN} {R2KD}': digits_again,
    f'{TEST} {R2KD} work_dirs/r2kd_res14_res6_digits/epoch_200.pth': as_it_stands,
    f'{EXPORT} work_dirs/r2kd_res14_res6_digits/epoch_200.pth exports/digits --format torch': as_it_stands,
    f'{TRAIN} {R2KD} --work-dir work_dirs/no-pruning --cfg-options model.pruner=None': digits,
    f'{TRAIN} configs/own/r2kd_half_digits.py': digits,
    'python tools/compare.py configs/kd/kd_res14_res6_digits.py configs/own/r2kd_half_digits.py --seeds 0 1 2 '
    '--baseline kd_res14_res6_digits --out work_dirs/half': one_seed,
    # docs/cmkd.md
    f'{TRAIN} configs/cmkd/cmkd_res14_res6_digits.py': digits,
    f'{TRAIN} configs/cmkd/cmkd-no-aug_res14_res6_digits.py': digits,
    f'{TRAIN} configs/cmkd/cmkd-dkd_res14_res6_digits.py': digits,
    # docs/teachers.md
    'python tools/prune_teacher.py configs/supervised/res14_digits.py work_dirs/res14_digits/epoch_60.pth '
    '--out work_dirs/pruned': Short(arguments=('--pruners', 'magnitude', '--amounts', '0.1')),
    # how-to
    'python tools/dataset_converters/make_mini.py imagenet data/mine': as_it_stands,
    f'{TRAIN} configs/own/res18_mine.py': Short((*EPOCH, *SMALL_IMAGES, *FEW)),
    f'{TRAIN} configs/own/res34_mine.py': Short((*EPOCH, *SMALL_IMAGES, *FEW, 'model.backbone.init_cfg=None')),
    f'{TRAIN} configs/own/r2kd_res34_res18_mine.py': Short(
        (
            *EPOCH,
            *SMALL_IMAGES,
            *FEW,
            'model.teacher_ckpt=work_dirs/res34_mine/epoch_1.pth',
            'model.allow_untrained_teacher=True',
        )
    ),
    f'PYTHONPATH=. {TRAIN} configs/own/res18_csv.py': Short((*EPOCH, *SMALL_IMAGES)),
    f'PYTHONPATH=. {TRAIN} configs/own/r2kd_res14_mine_digits.py': digits,
    f'PYTHONPATH=. {EXPORT} work_dirs/r2kd_res14_mine_digits/epoch_200.pth exports/mine '
    '--format torchscript': as_it_stands,
    f'PYTHONPATH=. {TRAIN} configs/own/error_res14_res6_digits.py': digits,
    f'PYTHONPATH=. {TRAIN} configs/own/relative_res14_res6_digits.py': digits,
    f'PYTHONPATH=. {TRAIN} configs/own/shift_res14_res6_digits.py': digits,
    f'PYTHONPATH=. {BROWSE} configs/own/shift_res14_res6_digits.py --out views.png': as_it_stands,
    f'PYTHONPATH=. {TRAIN} configs/own/mirror_res14w16_res14w8_glyph100.py': Short((*GLYPHS, *UNTRAINED)),
    # docs/launchers.md
    'PORT=29501 tools/dist_train.sh CONFIG 8': Launches('python', '--master_port=29501 --nproc_per_node=8 CONFIG'),
    'tools/dist_test.sh CONFIG CHECKPOINT 8': Launches(
        'python', '--nproc_per_node=8 CONFIG CHECKPOINT --launcher pytorch'
    ),
    'NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG 8 --work-dir /shared/run': Launches(
        'python', '--nnodes=2 --node_rank=0 --master_addr=10.0.0.1 --nproc_per_node=8 CONFIG --work-dir /shared/run'
    ),
    'NNODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 tools/dist_train.sh CONFIG 8 --work-dir /shared/run': Launches(
        'python', '--nnodes=2 --node_rank=1 --master_addr=10.0.0.1 --nproc_per_node=8 CONFIG --work-dir /shared/run'
    ),
    'NNODES=2 NODE_RANK=1 MASTER_ADDR=10.0.0.1 LOCAL_ADDR=10.0.0.2 MAX_RESTARTS=3 tools/dist_train.sh CONFIG 8 '
    '--work-dir /shared/run': Launches(
        'python', '--max-restarts=3 --local-addr=10.0.0.2 CONFIG --launcher pytorch --resume --work-dir /shared/run'
    ),
    'tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR': Launches(
        'srun', '--partition=PARTITION --job-name=JOB_NAME --gres=gpu:8 --ntasks=8 CONFIG --work-dir=WORK_DIR'
    ),
    'GPUS=16 GPUS_PER_NODE=8 tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR': Launches(
        'srun', '--gres=gpu:8 --ntasks=16 --ntasks-per-node=8 CONFIG'
    ),
    "SRUN_ARGS='--time=24:00:00 --mem=64G' tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR": Launches(
        'srun', '--time=24:00:00 --mem=64G CONFIG'
    ),
    'tools/slurm_train.sh gpu my-run CONFIG WORK_DIR --resume': Launches('srun', '--partition=gpu CONFIG --resume'),
    'MASTER_ADDR=127.0.0.1 mpirun -np 2 python tools/train.py CONFIG --launcher mpi': Launches(
        'mpirun', '-np 2 tools/train.py CONFIG --launcher mpi'
    ),
    'mpirun -np 16 --hostfile hosts -x MASTER_ADDR=10.0.0.1 -x MASTER_PORT -x PATH python tools/train.py CONFIG '
    '--launcher mpi': Launches('mpirun', 'tools/train.py CONFIG --launcher mpi'),
    # docs/speed.md
    'make gpu PYTHON=python3': shown,
    f'python tools/check_teacher_engine.py {R2KD} --engine fast': as_it_stands,
    'python tools/plan_run.py configs/r2kd/r2kd_res50_mbv1_imagenet.py --device h100 --batch-size 256': Covered(
        'tests/tools/test_plan_run.py::test_a_batch_that_does_not_fit_is_a_plan_and_one_line',
        'networks for ImageNet take a minute',
    ),
    f'python tools/check_teacher_engine.py {R2KD} --choose': as_it_stands,
    f'python tools/model_converters/export_teachers.py {R2KD} work_dirs/teachers': as_it_stands,
    f'{TRAIN} work_dirs/teachers/config.py': Short(EPOCH),
    'python tools/cache_teacher.py configs/r2kd/r2kd-replay_res50_mbv1_imagenet.py': Short(
        (*SMALL_IMAGES, *FEW, *TEN_CLASSES, *UNTRAINED, *SMALL_REPLAY)
    ),
    f'{TRAIN} configs/r2kd/r2kd-replay_res50_mbv1_imagenet.py': Short(
        (*EPOCH, *SMALL_IMAGES, *FEW, *TEN_CLASSES, *UNTRAINED, *SMALL_REPLAY)
    ),
    # docs/mim.md
    'pip install -r requirements/mim.txt': installs,
    'pip install --no-deps openmim==0.3.9': installs,
    'r2kd-mm distill photos --teacher timm/resnet34 --teacher torchvision/resnet50 --student timm/resnet18 '
    '--out runs/photos': Covered(
        'tests/e2e/test_distill.py::test_two_teachers_are_asked_once_for_each_image', 'the weights are downloaded'
    ),
    'r2kd-mm distill photos --teacher timm/resnet34 --student timm/resnet18 --out runs/photos': Covered(
        'tests/e2e/test_distill.py::test_it_leaves_a_student_its_configs_and_a_table', 'the weights are downloaded'
    ),
    # docs/tutorial_photos.md
    'python benchmarks/speed/distill.py runs/tutorial --skimage scikit-image/skimage/data --students': Covered(
        'tests/benchmarks/speed/test_distill.py::test_without_students_the_photos_are_made', 'needs scikit-image'
    ),
    'r2kd-mm distill runs/tutorial/photos --teacher timm/test_resnet --student timm/test_efficientnet '
    '--teacher-init none --student-init none --epochs 30 --image-size 48 --teacher-image-size 48 '
    '--out runs/tutorial/student': Covered(
        'tests/benchmarks/speed/test_distill.py::test_the_command_goes_through_all_stages', 'takes minutes'
    ),
    'python tools/predict.py runs/tutorial/student/export/torchscript runs/tutorial/photos/val/coffee/0.png '
    '--top 3': Covered('tests/tools/test_predict.py::*', 'needs the student of the command above'),
    f'{TRAIN} runs/tutorial/student/configs/student_distilled.py --work-dir work_dirs/student_distilled': Covered(
        'tests/e2e/test_distill.py::test_tools_train_gives_the_same_result_from_the_config_of_a_stage', 'likewise'
    ),
    'mim train r2kd_mm res14_digits.py --gpus 0': Covered(
        f'{MIM}::test_mim_train_trains_a_config_of_the_package', 'mim looks for an installed package'
    ),
    'mim train r2kd_mm kd_res14_res6_digits.py --gpus 0': Covered(
        f'{MIM}::test_mim_train_trains_a_config_of_the_package', 'likewise'
    ),
    'mim test r2kd_mm kd_res14_res6_digits.py --checkpoint work_dirs/kd_res14_res6_digits/epoch_200.pth '
    '--gpus 0': Covered(f'{MIM}::test_mim_test_measures_what_training_did', 'likewise'),
    'mim run r2kd_mm check_env': Covered(f'{MIM}::test_mim_run_finds_the_tools_also_those_in_folders', 'likewise'),
    'mim run r2kd_mm dataset_converters:make_mini cifar100 data/mini-cifar100': Covered(
        f'{MIM}::test_mim_run_finds_the_tools_also_those_in_folders', 'likewise'
    ),
    f'mim run r2kd_mm compose_config r2kd-mixup res56_res20_cifar100 --out {MIXUP}': Covered(
        f'{MIM}::test_a_config_without_a_file_is_composed', 'it runs the tools of an installed package'
    ),
    f'mim train r2kd_mm {MIXUP} --gpus 0': Covered(f'{MIM}::test_a_config_without_a_file_is_composed', 'likewise'),
    f'{TRAIN} r2kd_mm::kd/kd_res14_res6_digits.py': Covered(
        f'{MIM}::test_a_config_of_the_package_goes_by_its_name', 'such a name is of an installed package'
    ),
    # README and configs/*/README.md
    **{
        f'python tools/compose_config.py {method} {pair} --out configs/own/{method}_{pair}.py': as_it_stands
        for method, pair in (
            ('r2kd-mixup', 'res34_res18_imagenet'),
            ('r2kd-cutout', 'res34_res18_imagenet'),
            ('cmkd-no-aug', 'res56_res20_cifar100'),
            ('kd', 'res34_res18_cub200'),
            ('kd-ls', 'res32x4_sv1_cifar100'),
            ('dkd', 'res56_res20_tiny-imagenet'),
            ('dist', 'res50_mv2_cub200'),
            ('mlkd', 'res56_res20_cifar100'),
        )
    },
    **{
        f'{TRAIN} configs/{method}/{method}_res14_res6_digits.py': digits_again if method == 'kd' else digits
        for method in ('kd', 'kd-ls', 'dkd', 'dist', 'mlkd')
    },
    f'{TRAIN} configs/supervised/res6_digits.py': digits,
    # docs/export.md
    f'{EXPORT} work_dirs/run/epoch_100.pth exports/int8 --format onnx --precision int8': Covered(
        'tests/export/test_quantization.py::test_int8_is_written_and_scores_outside_this_package_what_the_card_says',
        'a student of one epoch loses more than is allowed',
    ),
    'python tools/ship.py work_dirs/demo/runs/*/seed_0 --targets onnx-float32,onnx-int8,executorch-int8 --out '
    'work_dirs/ship': Covered('tests/export/test_ship.py', 'it takes the runs of the demo, and ExecuTorch'),
    'python tools/predict.py exports/student photos --json': as_it_stands,
    f'{TEST} {R2KD} exports/student': Covered(
        'tests/export/test_scoring.py::test_an_export_has_the_metrics_of_its_checkpoint_and_their_interval',
        'the export of the line above is of another run',
    ),
    # docs/compose.md
    f'{TRAIN} configs/compose/compose-fitnet_res14_res6_digits.py': digits,
    f'{TRAIN} configs/compose/compose-l1_res14_res14_digits.py --work-dir run --cfg-options train_cfg.max_epochs=11 '
    'train_cfg.val_interval=11 default_hooks.checkpoint.interval=11': as_it_stands,
    f'{TEST} configs/compose/compose-l1_res14_res14_digits.py run/epoch_11.pth': as_it_stands,
    # docs/change_training.md, docs/pretrained_students.md, docs/choose_method.md
    f'{TRAIN} configs/own/r2kd_res50_mbv1_imagenet_160.py': flagship,
    f'{TRAIN} {R2KD} --work-dir work_dirs/digits_50 --cfg-options train_cfg.max_epochs=50 param_scheduler.1.T_max=40 '
    'param_scheduler.1.end=50': digits,
    f'{TRAIN} {R2KD} --work-dir work_dirs/digits_lr --cfg-options optim_wrapper.optimizer.lr=0.05 '
    'train_dataloader.batch_size=30': digits,
    f'{TRAIN} configs/own/r2kd_pretrained_digits.py': Short(
        (*EPOCH, 'model.architecture.init_cfg.checkpoint=work_dirs/res6_digits/epoch_1.pth')
    ),
    'python tools/compare.py configs/supervised/res6_digits.py configs/kd/kd_res14_res6_digits.py --seeds 0 1 2 '
    '--out work_dirs/alone --baseline res6_digits': one_seed,
    # docs/grids.md, docs/tune.md
    'python tools/compare.py configs/kd/kd_res14_res6_digits.py configs/dist/dist_res14_res6_digits.py --seeds 0 1 2 '
    '--out work_dirs/grid --jobs 2': one_seed,
    'python tools/tune.py configs/kd/kd_res14_res6_digits.py --space tools/spaces/kd.py --trials 20 '
    f'--out work_dirs/tune --cfg-options {HALVES}': Covered(TUNE, 'it needs Optuna'),
    'python tools/tune.py configs/kd/kd_res14_res6_digits.py configs/dist/dist_res14_res6_digits.py '
    'configs/dkd/dkd_res14_res6_digits.py configs/cmkd/cmkd_res14_res6_digits.py '
    'configs/r2kd/r2kd_res14_res6_digits.py '
    '--space tools/spaces/kd.py tools/spaces/dist.py tools/spaces/dkd.py tools/spaces/cmkd.py tools/spaces/r2kd.py '
    f'--trials 20 --jobs 2 --out work_dirs/tune --cfg-options {HALVES}': Covered(TUNE, 'it takes hours'),
    # docs/reproduce.md
    'python tools/dataset_converters/prepare_cifar100.py cifar-100-python.tar.gz data/cifar100': Covered(
        'tests/tools/test_preparation.py::*', 'the archive is downloaded'
    ),
    'python tools/model_converters/convert_zoo_checkpoint.py cifar/resnet56 resnet56_vanilla.pth '
    'checkpoints/cifar100/resnet56.pth': Covered(
        'tests/tools/test_convert_zoo_checkpoint.py::*', 'the checkpoint is downloaded'
    ),
    'python tools/compare.py configs/supervised/res20_cifar100.py '
    + ''.join(f'configs/{method}/{name}_res56_res20_cifar100.py ' for method, name in CIFAR_METHODS)
    + '--seeds 0 1 2 3 4 --baseline kd_res56_res20_cifar100 --out work_dirs/cifar100': Covered(
        'tests/runs/test_training.py::test_a_resumed_run_ends_as_without_the_interruption', 'it takes days'
    ),
    f'tools/dist_train.sh {IMAGENET} 8 --resume': Launches(
        'python', f'--nproc_per_node=8 {IMAGENET} --launcher pytorch --resume'
    ),
    # docs/analysis.md
    "pip install 'r2kd_mm[analysis]'": Covered('tests/tools/test_analyze.py::*', 'r2kd_mm has to be installed for it'),
    'python tools/analyze.py work_dirs/demo/runs --out work_dirs/demo/page': Short(
        arguments=('--images', '20', '--fast', '--open-no')
    ),
    'python tools/analyze.py work_dirs/a work_dirs/b --out page --names KD R2KD --fast --open-no': Short(
        arguments=('--images', '20')
    ),
    f'{BROWSE} {R2KD} --out views.png --num 16': as_it_stands,
    # docs/faq.md
    f'{TRAIN} {R2KD} --resume --cfg-options custom_hooks.5.action=skip': digits,
    f'python tools/compare.py configs/kd/kd-cutmix_res14_res6_digits.py {R2KD} --seeds 0 1 2 '
    '--out work_dirs/gain --baseline kd-cutmix_res14_res6_digits': one_seed,
    f'{EXPORT} work_dirs/r2kd_res14_res6_digits/epoch_200.pth exports/plain --format mmpretrain': as_it_stands,
    # docs/measurements
    **{
        f'python benchmarks/accuracy/evidence/{rest}': Covered(
            f'tests/benchmarks/accuracy/test_evidence.py::{test}', 'it takes hours'
        )
        for test, rests in {
            'test_a_question_is_answered': (
                'run.py ends --scale hard --jobs 2',
                'run.py ends-parts --scale hard --jobs 2',
                'run.py methods --scale short --jobs 2',
                'conditions.py methods --scale short',
                'run.py parts --scale short --jobs 2',
                'run.py claims --scale short --jobs 2',
                'conditions.py claims --scale short',
                'run.py methods --scale short --pair other-family --jobs 2',
                'run.py recipe --scale short --jobs 2',
                'run.py recipe --scale short --pair other-family --jobs 2',
                'run.py plus --scale reduced --seeds 0 1 2 --jobs 2',
                'run.py methods --scale hard --jobs 2',
                'run.py methods --scale full --pair other-family',
            ),
            'test_every_kind_of_method_can_be_trained': (
                'run.py few-labels --scale short --jobs 2',
                'run.py wrong-labels-20 --scale short --jobs 2',
                'run.py wrong-labels-40 --scale short --jobs 2',
                'run.py teachers --scale short --jobs 2',
                'run.py next --scale short --jobs 2',
            ),
        }.items()
        for rest in rests
    },
    f'{TRAIN} configs/supervised/res14w16_glyph100.py': Short(GLYPHS),
    f'{TRAIN} configs/r2kd/r2kd_res14w16_res14w8_glyph100.py': Short((*GLYPHS, *UNTRAINED)),
    # docs/digits.md, docs/glyph100.md
    'make compare': shown,
    # hours; a typo in the options would show
    'python benchmarks/accuracy/digits_rank_term.py --seeds 0 1 2 --jobs 2': Short(arguments=('--help',)),
    'python tools/compare.py configs/supervised/res6_digits.py --seeds 0 1 2 --out work_dirs/lr_0.4 '
    '--cfg-options optim_wrapper.optimizer.lr=0.4': one_seed,
    f'{TRAIN} configs/supervised/res14w8_glyph100.py': Short(GLYPHS),
    f'{TEST} configs/supervised/res14w8_glyph100.py work_dirs/res14w8_glyph100/epoch_60.pth '
    '--cfg-options test_dataloader.dataset.split=shifted': Short(GLYPHS),
    'python tools/dataset_converters/make_glyph100.py data/glyph100': Short(arguments=('--size', '100')),
}
QUICK = 'cmkd.md'  # the page of `make test`; the others are in `make test-all`
# Python blocks that cannot stand alone, by page and first line: the test that runs what they show
EXCERPTS = {
    ('docs/own_config.md', 'model = dict('): 'tests/distillers/test_r2kd.py::test_by_name_alone_is_the_method',
    ('docs/own_config.md', 'model.update('): 'tests/distillers/test_r2kd.py::test_by_name_alone_is_the_method',
    ('docs/own_distiller.md', 'from r2kd_mm.distillers import Distill'): 'tests/distillers/test_plain.py',
    ('docs/teachers.md', 'model = dict('): 'tests/teachers/test_ensemble.py',
    ('docs/glyph100.md', "dict(type=Glyph100, split='train')"): 'tests/datasets/test_glyph100.py',
    ('docs/export.md', 'import torch'): 'tests/export/test_formats.py',
    ('docs/export.md', 'import onnxruntime'): 'tests/export/test_formats.py',
    ('docs/export.md', 'from executorch.runtime import Runtime'): 'tests/export/test_quantization.py',
    ('docs/export.md', 'from mmpretrain import ImageClassificationInferencer'): 'tests/export/test_formats.py',
    ('docs/own_photos.md', 'import r2kd_mm'): 'tests/e2e/test_distill.py',
    ('docs/mim.md', 'import r2kd_mm'): f'{MIM}::test_a_config_of_the_package_goes_by_its_name',
    ('docs/analysis.md', 'from mmengine.visualization import Tens'): 'tests/report/test_backends.py',
    ('docs/compose.md', 'model.features = dict('): 'tests/compose/test_feature_losses.py',
    ('docs/compose.md', "model.architecture = dict(type='FakeQuantizedClassifier'"): 'tests/test_quantized.py',
    ('docs/analysis.md', 'from r2kd_mm.corruptions import Corrupt'): 'tests/corruptions/test_transform.py',
    ('docs/analysis.md', 'from r2kd_mm.metrics import CalibrationError'): 'tests/metrics/test_calibration.py',
}


def documented() -> dict[str, list[str]]:
    """The commands of all pages, each with the pages that have it."""
    found: dict[str, list[str]] = {}
    for page in documents.PAGES:
        for block in documents.blocks(page):
            for command in block.commands if block.language == 'bash' else []:
                found.setdefault(command, []).append(block.page)
    return found


def test_the_table_knows_every_command_and_no_other():
    unknown = [
        f'{command}    ({", ".join(pages)})' for command, pages in documented().items() if command not in COMMANDS
    ]
    assert not unknown, 'tell COMMANDS how to run these:\n' + '\n'.join(unknown)
    gone = sorted(COMMANDS.keys() - documented().keys())
    assert not gone, 'no document has these any more; take them out of COMMANDS:\n' + '\n'.join(gone)


def test_code_has_a_language_so_that_commands_and_python_are_found():
    unmarked = {block.page for page in documents.PAGES for block in documents.blocks(page) if not block.language}
    assert not unmarked


def test_a_command_that_is_not_run_names_configs_that_exist():
    words = {word for command, how in COMMANDS.items() if isinstance(how, Covered) for word in shlex.split(command)}
    configs = {word for word in words if re.fullmatch(r'configs/\S+\.py', word)}
    assert configs
    assert {config for config in configs if not (toolbox.ROOT / config).is_file()} == set()


def test_what_is_covered_elsewhere_is_there():
    tests = {how.test for how in COMMANDS.values() if isinstance(how, Covered)}
    for file, _, function in (test.partition('::') for test in sorted({*tests, *EXCERPTS.values()})):
        path = toolbox.ROOT / file
        assert path.is_file(), f'there is no {file}'
        names = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert function in {*names, '*', ''}, f'{file} has no test {function}'


def is_excerpt(block: documents.Block) -> bool:
    return any(block.page == page and block.text.startswith(start) for page, start in EXCERPTS)


def test_every_excerpt_is_in_a_document():
    python = [block for page in documents.PAGES for block in documents.blocks(page) if block.language == 'python']
    for page, start in EXCERPTS:
        assert any(block.page == page and block.text.startswith(start) for block in python), (page, start)


def test_commands_and_recipes_that_set_the_folder_of_the_data_set_it_for_the_test_data_too(tmp_path):
    for command in filter(lambda command: 'val_dataloader.dataset.data_root=' in command, documented()):
        folders = dict(re.findall(r'(\w+)_dataloader\.dataset\.data_root=(\S+)', command))
        assert folders.get('test') == folders['val'], command

    (tmp_path / 'own').mkdir()
    (tmp_path / '_base_').symlink_to(toolbox.ROOT / 'configs/_base_')
    blocks = [block for page in documents.PAGES for block in documents.blocks(page) if block.file is not None]
    recipes = [block for block in blocks if '.dataset.data_root = ' in block.text]
    assert recipes
    for block in recipes:
        path = tmp_path / 'own' / Path(block.file).name
        path.write_text(block.text)
        cfg = Config.fromfile(path)
        assert cfg.test_dataloader.dataset.data_root == cfg.val_dataloader.dataset.data_root, block.file


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, with a teacher that took long to train."""
    place = tmp_path_factory.mktemp('repository')
    private = {'.git', '.venv', 'data', 'work_dirs', 'configs', 'r2kd_mm.egg-info'}
    for path in toolbox.ROOT.iterdir():
        if path.name not in private:
            (place / path.name).symlink_to(path)
    shutil.copytree(toolbox.ROOT / 'configs', place / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        options = ('--cfg-options', 'train_cfg.max_epochs=10', *EPOCH[1:])
        assert toolbox.run_forked('train.py', 'configs/supervised/res14_digits.py', *options).returncode == 0
        shutil.copy('work_dirs/res14_digits/epoch_10.pth', 'work_dirs/res14_digits/epoch_60.pth')
    return place


@pytest.fixture(scope='module')
def whole_place(place: Path) -> Path:
    """The same after the other steps that tests cannot take: data, public weights, long runs."""
    converters.make_mini('imagenet', place / 'data/imagenet', '--classes', '10', '--size', '40')
    converters.make_mini('tiny_imagenet', place / 'archives', '--archive')
    shutil.copy(next((place / 'archives').glob('*.zip')), place / 'tiny-imagenet-200.zip')
    photos = sorted((place / 'data/imagenet/val').rglob('*.JPEG'))[:4]
    for folder in ('photos', 'data/pets'):
        (place / folder).mkdir(parents=True)
        for photo in photos:
            shutil.copy(photo, place / folder / f'{photo.stem}.jpg')
    names = [f'{photo.stem}.jpg' for photo in photos]
    for split in ('train', 'val'):
        lines = [f'{name},{("cat", "dog")[index % 2]}\n' for index, name in enumerate(names)]
        (place / f'data/pets/{split}.csv').write_text(''.join(lines))
    teacher = build_classifier('tiny/vgg13')
    torch.save({'model': revert_state_dict('tiny/vgg13', teacher.state_dict())}, place / 'vgg13_vanilla.pth')

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        options = ('--work-dir', 'work_dirs/run', '--cfg-options', *EPOCH)
        assert toolbox.run_forked('train.py', 'configs/kd/kd_res14_res6_digits.py', *options).returncode == 0
        for folder in ('a', 'b', 'demo/runs/KD/seed_0'):
            shutil.copytree('work_dirs/run', f'work_dirs/{folder}')
    return place


@pytest.fixture(scope='module')
def done() -> set[str]:
    """Commands that were run: one that several pages have is run once."""
    return set()


def take_last_for_checkpoint(place: Path, command: str) -> None:
    """Stand in for the checkpoint of a long run that the command names, by that of the short one."""
    for argument in shlex.split(command):
        path = place / argument.rpartition('=')[2]
        if path.suffix == '.pth' and not path.exists() and (path.parent / 'epoch_1.pth').is_file():
            shutil.copy(path.parent / 'epoch_1.pth', path)


def run_short(command: str, place: Path, patch: pytest.MonkeyPatch) -> toolbox.Finished:
    """Run a command line: a tool in a fork, anything else in a shell."""
    words = shlex.split(command)
    if words[0] == 'PYTHONPATH=.':
        patch.syspath_prepend(place)
        words = words[1:]
    if words[0] == 'python' and words[1].startswith('tools/'):
        return toolbox.run_forked(words[1].removeprefix('tools/'), *words[2:])
    ran = subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=toolbox.TIMEOUT, env=toolbox.environment()
    )
    return toolbox.Finished(ran.returncode, ran.stdout, ran.stderr)


def check_launch(command: str, how: Launches, folder: Path) -> None:
    """Run a command with a stand-in for the program that it starts, and compare the arguments that this one gets."""
    stub, record = folder / 'bin' / how.program, folder / 'arguments.json'
    stub.parent.mkdir(exist_ok=True)
    stub.write_text(f'#!{sys.executable}\nimport json, sys\njson.dump(sys.argv[1:], open({str(record)!r}, "w"))\n')
    stub.chmod(0o755)
    environment = toolbox.environment()
    environment['PATH'] = f'{stub.parent}{os.pathsep}{environment["PATH"]}'
    ran = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment, executable='/bin/bash')
    assert ran.returncode == 0, ran.stderr
    launched = iter(argument.removeprefix(f'{toolbox.ROOT}/') for argument in json.loads(record.read_text()))
    assert all(any(given == argument for given in launched) for argument in how.arguments.split()), record.read_text()


@pytest.mark.parametrize(
    'page',
    [
        pytest.param(page, id=documents.name(page), marks=() if page.name == QUICK else pytest.mark.slow)
        for page in documents.PAGES
        if re.search(r'^```(bash|python)', page.read_text(), re.M)
    ],
)
def test_what_a_page_says_works(page, request, done, tmp_path, monkeypatch):
    place = request.getfixturevalue('place' if page.name == QUICK else 'whole_place')
    monkeypatch.chdir(place)
    for block in documents.blocks(page):
        if block.file is not None:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text)
        elif block.language == 'python' and not is_excerpt(block):
            Path('block.py').write_text(block.text)
            finished = toolbox.run_forked(str(place / 'block.py'))
            assert finished.returncode == 0, f'{block.text}\n{finished.stderr}'
        for command in block.commands if block.language == 'bash' else []:
            how = COMMANDS[command]
            if command in done or isinstance(how, Covered):
                continue
            if isinstance(how, Launches):
                check_launch(command, how, tmp_path)
            else:
                take_last_for_checkpoint(place, command)
                with monkeypatch.context() as patch:
                    finished = run_short(how.complete(command), place, patch)
                assert finished.returncode == 0, f'{command}\n{finished.stdout[-2000:]}\n{finished.stderr[-3000:]}'
            done.add(command)
