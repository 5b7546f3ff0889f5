"""Unpack, arrange and check MIT Indoor 67: indoorCVPR_09.tar and the two lists in one folder.

python tools/dataset_converters/prepare_mit67.py FOLDER_OF_THE_DOWNLOADS data/mit67
"""

from preparation import Recipe, check_image_set, main


def make_recipe() -> Recipe:
    """The recipe; see :class:`preparation.Recipe`."""
    from r2kd_mm.datasets import MIT67

    return Recipe('mit67', parts=MIT67.required, check=check_image_set(MIT67))


if __name__ == '__main__':
    main('mit67', make_recipe)
