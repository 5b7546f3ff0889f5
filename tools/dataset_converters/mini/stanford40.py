"""Write a miniature of Stanford 40 Actions: all images in one folder, and two lists for each action."""

from __future__ import annotations

from pathlib import Path

from mini.base import Format, Miniature, write_archive


def write(folder: Path, mini: Miniature) -> None:
    """Write the images; ``ImageSplits`` has the actions, one list for each action and split, and one for each split."""
    actions = [f'doing_{label:02d}' for label in range(mini.classes)]
    splits = folder / 'ImageSplits'
    splits.mkdir()
    of_split: dict[str, list[str]] = {'train': [], 'test': []}
    for label, action in enumerate(actions):
        names = [f'{action}_{index + 1:03d}.jpg' for index in range(mini.train + mini.val)]
        for name in names:
            mini.save_image(label, folder / 'JPEGImages' / name)
        for split, listed in (('train', names[: mini.train]), ('test', names[mini.train :])):
            (splits / f'{action}_{split}.txt').write_text(''.join(f'{name}\n' for name in listed))
            of_split[split] += listed
    for split, listed in of_split.items():
        (splits / f'{split}.txt').write_text(''.join(f'{name}\n' for name in listed))
    counts = ''.join(f'{action}\t{mini.train + mini.val}\n' for action in actions)
    (splits / 'actions.txt').write_text('action_name\tnumber_of_images\n' + counts)


def pack(folder: Path, dst: Path) -> None:
    """Two zip files, for the images and for the lists."""
    write_archive(dst / 'Stanford40_JPEGImages.zip', folder, 'JPEGImages')
    write_archive(dst / 'Stanford40_ImageSplits.zip', folder, 'ImageSplits')


FORMAT = Format(write, pack)
