"""Unpack, arrange and check the published archive of CIFAR-100, Python version.

python tools/dataset_converters/prepare_cifar100.py cifar-100-python.tar.gz data/cifar100
"""

from preparation import Recipe, check_image_set, main


def make_recipe() -> Recipe:
    """Return the instructions for this data set; see :class:`preparation.Recipe`."""
    from r2kd_mm.datasets import CIFAR100

    return Recipe('cifar100', parts=('train', 'test', 'meta'), check=check_image_set(CIFAR100), into='cifar-100-python')


if __name__ == '__main__':
    main('cifar100', make_recipe)
