"""Unpack, arrange and check Tiny-ImageNet in either of its two public layouts; the layout is kept.

python tools/dataset_converters/prepare_tiny_imagenet.py tiny-imagenet-200.zip data/tiny_imagenet
"""

from preparation import Recipe, check_image_set, main


def make_recipe() -> Recipe:
    """Return the instructions for this data set; see :class:`preparation.Recipe`."""
    from r2kd_mm.datasets import TinyImageNet

    return Recipe(
        'tiny_imagenet', parts=('train', 'val', 'wnids.txt', 'words.txt'), check=check_image_set(TinyImageNet)
    )


if __name__ == '__main__':
    main('tiny_imagenet', make_recipe)
