"""Write the small folders of pictures on which ``own_data.py`` measures distillation, one for each kind of picture.

Each folder has the splits ``train``, ``val`` (other pictures, or other regions of a picture) and ``more`` (further
pictures like those of ``train``). Only the teacher is trained on ``more``, because it has no published weights.

Sources and their licences; this repository contains none of the sources:

- digits: ``sklearn.datasets.load_digits``, BSD-3-Clause.
- crops: pictures that scikit-image 0.26.0 and scikit-learn ship. The docstrings of ``skimage/data/_fetchers.py`` and
  ``sklearn/datasets/images/README.txt`` state author and licence of each; none forbids this use.
- glyphs: ``r2kd_mm.datasets.Glyph100``, drawn from the fonts that matplotlib ships (DejaVu, STIX).
- icons: the fonts of the package qtawesome 1.4.2 (MIT). Font Awesome Free 5.15.4 and 6.7.2 and Elusive Icons 2.0: SIL
  Open Font License 1.1. Material Design Icons 5.9.55 and 6.9.96, Remix Icon 2.5.0: Apache 2.0. Phosphor 1.3.0: MIT.
  Codicons 0.0.36: CC BY 4.0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 32
CROPPED = (
    'astronaut.png', 'brick.png', 'chelsea.png', 'coffee.png', 'color.png', 'grass.png', 'gravel.png', 'ihc.png',
    'hubble_deep_field.jpg', 'motorcycle_left.png', 'retina.jpg', 'rocket.jpg',
)  # fmt: skip
LETTERS = range(10, 30)  # labels of the Latin capitals A to T in Glyph-100
LOOK_ALIKES = (12, 16)  # C and G
CONCEPTS = (
    'anchor', 'bell', 'book', 'bookmark', 'bug', 'camera', 'cloud', 'eye', 'fire', 'flag', 'folder', 'gift', 'heart',
    'key', 'leaf', 'lock', 'rocket', 'star', 'trophy', 'umbrella',
)  # fmt: skip
# Families of icons: file, and what follows the concept in the name of an icon
TRAIN_FAMILIES = (
    ('fontawesome5-solid-webfont', ''),
    ('fontawesome6-regular-webfont', ''),
    ('materialdesignicons6-webfont', ''),
    ('materialdesignicons6-webfont', '-outline'),
)
MORE_FAMILIES = (
    *TRAIN_FAMILIES,
    ('fontawesome6-solid-webfont', ''),
    ('fontawesome5-regular-webfont', ''),
    ('materialdesignicons5-webfont', '-variant'),
    ('elusiveicons-webfont', ''),
    ('codicon', ''),
)
VAL_FAMILIES = (
    ('phosphor', ''),
    ('phosphor', '-bold'),
    ('phosphor', '-fill'),
    ('remixicon', '-line'),
    ('remixicon', '-fill'),
)
Pictures = Iterator[Image.Image]


def write(root: Path, split: str, name: str, pictures: Pictures) -> None:
    """Write the pictures of one class as PNG files in the folder ``root/split/name``."""
    folder = root / split / name
    folder.mkdir(parents=True)
    for index, picture in enumerate(pictures):
        picture.convert('RGB').save(folder / f'{index}.png')


def write_digits(root: Path, train: int, val: int, more: int) -> None:
    """Write digits of scikit-learn; each split has pictures of its own."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    for label in range(10):
        pictures = (digits.images[digits.target == label] * 255 / 16).astype(np.uint8)
        parts = dict(train=pictures[:train], val=pictures[train : train + val], more=pictures[train + val :][:more])
        for split, part in parts.items():
            large = (Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR) for image in part)
            write(root, split, str(label), large)


def write_crops(
    root: Path,
    skimage: Path,
    train: int,
    val: int,
    more: int,
    names: Sequence[str] | None = None,
    side: int = SIDE,
) -> None:
    """Cut squares from the left part of each picture to train on, and from the right part to measure on.

    Args:
        root: Folder to make.
        skimage: Folder ``data`` of scikit-image.
        train: Number of squares of each picture to train on.
        val: Number to measure on.
        more: Number that only the teacher sees.
        names: Pictures to take; ``None`` takes all.
        side: Pixels of a square.
    """
    from sklearn.datasets import load_sample_images

    pictures = {name.partition('.')[0]: Image.open(skimage / name).convert('RGB') for name in CROPPED}
    samples = load_sample_images()
    for name, image in zip(samples.filenames, samples.images):
        pictures[Path(name).stem] = Image.fromarray(image)
    for number, (name, picture) in enumerate(pictures.items()):
        if names is not None and name not in names:
            continue
        rng = np.random.default_rng(number)
        for split, count in dict(train=train, more=more).items():
            write(root, split, name, crops(picture, 0, picture.width // 2, count, rng, side))
        write(root, 'val', name, crops(picture, picture.width // 2, picture.width, val, rng, side))


def crops(
    picture: Image.Image, left: int, right: int, count: int, rng: np.random.Generator, side: int = SIDE
) -> Pictures:
    """Cut squares of different sizes between two columns of a picture; ``side`` is what they are resized to."""
    for _ in range(count):
        cut = int(rng.uniform(0.12, 0.3) * min(picture.width // 2, picture.height))
        x, y = int(rng.integers(left, right - cut)), int(rng.integers(0, picture.height - cut))
        yield picture.crop((x, y, x + cut, y + cut)).resize((side, side), Image.Resampling.BICUBIC)


def write_glyphs(
    root: Path, difficulty: float, train: int, val: int, more: int, labels: Sequence[int] = LETTERS
) -> None:
    """Draw characters of Glyph-100, each at the contrast that its base config brings pictures to."""
    from r2kd_mm.datasets.contrast import NormalizeContrast
    from r2kd_mm.datasets.glyphs import CLASSES, Painter

    contrast = NormalizeContrast()
    for split, source, begin, count in (
        ('train', 'train', 0, train),
        ('more', 'train', train, more),
        ('val', 'val', 0, val),
    ):
        painter = Painter(source, 0, difficulty)
        for label in labels:
            images = (painter.paint(index * len(CLASSES) + label) for index in range(begin, begin + count))
            drawn = (Image.fromarray(contrast.transform(dict(img=image))['img']) for image in images)
            write(root, split, CLASSES[label].replace(' ', '_'), drawn)


def write_icons(root: Path, fonts: Path, train: int, val: int, more: int, concepts: Sequence[str] = CONCEPTS) -> None:
    """Render icons that several families draw; train and val have different families."""
    splits = dict(train=(TRAIN_FAMILIES, train), val=(VAL_FAMILIES, val), more=(MORE_FAMILIES, more))
    for number, (split, (families, count)) in enumerate(splits.items()):
        found = [(ImageFont.truetype(fonts / font_file(fonts, name, 'ttf'), 48), *read(fonts, name, suffix))
                 for name, suffix in families]  # fmt: skip
        for label, concept in enumerate(concepts):
            icons = [(font, chr(codes[concept + suffix])) for font, codes, suffix in found if concept + suffix in codes]
            rng = np.random.default_rng((number, label))
            drawn = (render(*icons[index % len(icons)], rng) for index in range(count))
            write(root, split, concept, drawn)


def font_file(fonts: Path, family: str, ending: str) -> str:
    """Return the name of the one file of a family, whatever its version."""
    name, charmap = (family, '-charmap') if ending == 'json' else (family, '')
    (found,) = fonts.glob(f'{name}{charmap}-[0-9]*.{ending}')
    return found.name


def read(fonts: Path, family: str, suffix: str) -> tuple[dict[str, int], str]:
    """Return the characters of a family by name, and the suffix."""
    codes = json.loads((fonts / font_file(fonts, family, 'json')).read_text())
    return {name: int(code, 16) for name, code in codes.items()}, suffix


def render(font: ImageFont.FreeTypeFont, character: str, rng: np.random.Generator) -> Image.Image:
    """Draw a character in random colours, at a random angle, size and place."""
    canvas = 128
    mask = Image.new('L', (canvas, canvas))
    ImageDraw.Draw(mask).text((canvas / 2, canvas / 2), character, 255, font, anchor='mm')
    angle, zoom, (dx, dy) = rng.uniform(-15, 15), rng.uniform(1.5, 2.2), rng.uniform(-5, 5, 2)
    half = canvas / 2 / zoom
    middle = canvas / 2
    box = (middle + dx - half, middle + dy - half, middle + dx + half, middle + dy + half)
    mask = mask.rotate(angle, Image.Resampling.BILINEAR).resize((SIDE, SIDE), Image.Resampling.BOX, box)
    front, back = rng.integers(0, 110, 3), rng.integers(150, 256, 3)  # dark on light
    share = np.asarray(mask, dtype=np.float64)[..., None] / 255
    pixels = share * front + (1 - share) * back + rng.normal(0, 8, (SIDE, SIDE, 3))
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def writers(skimage: Path, fonts: Path) -> dict[str, Callable[[Path], None]]:
    """Return what writes each kind of data into a folder."""
    return {
        'digits': lambda root: write_digits(root, train=15, val=60, more=90),
        'crops': lambda root: write_crops(root, skimage, train=20, val=60, more=70),
        'glyphs 0': lambda root: write_glyphs(root, 0.0, train=15, val=40, more=70),
        'glyphs 0.25': lambda root: write_glyphs(root, 0.25, train=15, val=40, more=70),
        'icons': lambda root: write_icons(root, fonts, train=16, val=40, more=80),
        'two crops': lambda root: write_crops(root, skimage, train=32, val=300, more=300, names=('grass', 'gravel')),
        'two glyphs': lambda root: write_glyphs(root, 0.25, train=32, val=300, more=300, labels=LOOK_ALIKES),
        'two icons': lambda root: write_icons(root, fonts, train=32, val=300, more=300, concepts=('bell', 'umbrella')),
    }
