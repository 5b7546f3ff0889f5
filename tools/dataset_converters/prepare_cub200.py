"""Unpack, arrange and check the published archive of CUB-200-2011.

python tools/dataset_converters/prepare_cub200.py CUB_200_2011.tgz data/cub200
"""

from preparation import Recipe, check_image_set, main


def make_recipe() -> Recipe:
    """Return the instructions for this data set; see :class:`preparation.Recipe`."""
    from r2kd_mm.datasets import CUB200

    return Recipe('cub200', parts=(*CUB200.required, 'bounding_boxes.txt'), check=check_image_set(CUB200))


if __name__ == '__main__':
    main('cub200', make_recipe)
