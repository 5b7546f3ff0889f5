"""Unpack, arrange and check Stanford Dogs, from a folder that holds images.tar and lists.tar.

python tools/dataset_converters/prepare_stanford_dogs.py FOLDER_OF_THE_DOWNLOADS data/stanford_dogs
"""

from preparation import Recipe, check_image_set, main


def make_recipe() -> Recipe:
    """Return the instructions for this data set; see :class:`preparation.Recipe`."""
    from r2kd_mm.datasets import StanfordDogs

    return Recipe('stanford_dogs', parts=StanfordDogs.required, check=check_image_set(StanfordDogs))


if __name__ == '__main__':
    main('stanford_dogs', make_recipe)
