"""Unpack, arrange and check Stanford Dogs: images.tar and lists.tar in one folder.

python tools/dataset_converters/prepare_stanford_dogs.py FOLDER_OF_THE_DOWNLOADS data/stanford_dogs
"""

from preparation import Recipe, check_image_set, main


def make_recipe() -> Recipe:
    """The recipe; see :class:`preparation.Recipe`."""
    from r2kd_mm.datasets import StanfordDogs

    return Recipe('stanford_dogs', parts=StanfordDogs.required, check=check_image_set(StanfordDogs))


if __name__ == '__main__':
    main('stanford_dogs', make_recipe)
