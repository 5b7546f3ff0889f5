"""Unpack, arrange and check Tiny-ImageNet; both public layouts are taken, and kept as they are.

python tools/dataset_converters/prepare_tiny_imagenet.py tiny-imagenet-200.zip data/tiny_imagenet
"""

from preparation import Recipe, check_image_set, main

from r2kd_mm.datasets import TinyImageNet

RECIPE = Recipe('tiny_imagenet', parts=('train', 'val', 'wnids.txt', 'words.txt'), check=check_image_set(TinyImageNet))

if __name__ == '__main__':
    main(RECIPE)
