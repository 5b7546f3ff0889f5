"""Unpack, arrange and check MIT Indoor 67, from a folder that holds indoorCVPR_09.tar and the two image lists.

python tools/dataset_converters/prepare_mit67.py FOLDER_OF_THE_DOWNLOADS data/mit67
"""

from preparation import Recipe, check_image_set, main


def make_recipe() -> Recipe:
    """Return the instructions for this data set; see :class:`preparation.Recipe`."""
    from r2kd_mm.datasets import MIT67

    return Recipe('mit67', parts=MIT67.required, check=check_image_set(MIT67))


if __name__ == '__main__':
    main('mit67', make_recipe)
