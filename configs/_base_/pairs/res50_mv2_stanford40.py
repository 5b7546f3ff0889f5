# ResNet-50, fine-tuned, to MobileNetV2 from scratch on Stanford 40 Actions: all but the method.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from ..datasets.stanford40 import *
    from ..distillation_runtime import *
    from ..models.imagenet_mv2 import *
    from ..models.imagenet_res50 import *
    from ..schedules.sgd_200e_fine_grained import *

student = mv2
student.head.num_classes = 40
teacher = res50
teacher.head.num_classes = 40
# where tools/train.py leaves configs/supervised/res50_stanford40.py
teacher_ckpt = 'work_dirs/res50_stanford40/epoch_50.pth'
