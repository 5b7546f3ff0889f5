# ResNet-50, fine-tuned, to MobileNetV2 from scratch on MIT Indoor 67: all but the method.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from ..datasets.mit67 import *
    from ..distillation_runtime import *
    from ..models.imagenet_mv2 import *
    from ..models.imagenet_res50 import *
    from ..schedules.sgd_200e_fine_grained import *

student = mv2
student.head.num_classes = 67
teacher = res50
teacher.head.num_classes = 67
# where tools/train.py leaves configs/supervised/res50_mit67.py
teacher_ckpt = 'work_dirs/res50_mit67/epoch_50.pth'
