# ResNet-34, fine-tuned, to ResNet-18 from scratch on Stanford 40 Actions: all but the method.
# lr 0.05 is for 1 GPU * 64 images.
from mmengine.config import read_base

with read_base():
    from ..datasets.stanford40 import *
    from ..distillation_runtime import *
    from ..models.imagenet_res18 import *
    from ..models.imagenet_res34 import *
    from ..schedules.sgd_200e_fine_grained import *

student = res18
student.head.num_classes = 40
teacher = res34
teacher.head.num_classes = 40
# where tools/train.py leaves configs/supervised/res34_stanford40.py
teacher_ckpt = 'work_dirs/res34_stanford40/epoch_50.pth'
