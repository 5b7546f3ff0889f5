"""Unpack, arrange and check Stanford 40 Actions, from a folder that holds the archives of the images and of the splits.

python tools/dataset_converters/prepare_stanford40.py FOLDER_OF_THE_DOWNLOADS data/stanford40
"""

from preparation import Recipe, check_image_set, main


def make_recipe() -> Recipe:
    """Return the instructions for this data set; see :class:`preparation.Recipe`."""
    from r2kd_mm.datasets import Stanford40

    return Recipe('stanford40', parts=('JPEGImages', 'ImageSplits'), check=check_image_set(Stanford40))


if __name__ == '__main__':
    main('stanford40', make_recipe)
