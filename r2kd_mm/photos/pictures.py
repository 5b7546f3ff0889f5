"""Open each photo: count file types, find broken files, and find validation photos that look like training photos."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from r2kd_mm.datasets import LoadImageFromFile
from r2kd_mm.engine import AtomicLocalBackend, RunStopped

MOST = 20_000  # photos that are decoded: minutes
SAMPLED = 'only {} of {} photos, at equal distances, were looked into for broken files, kinds and look-alikes'
KINDS = {'L': 'grey', 'LA': 'grey', '1': 'grey', 'P': 'palette', 'PA': 'palette', 'CMYK': 'CMYK', 'YCCK': 'CMYK'}
ORIENTATION = 0x0112  # tag of EXIF; 1 is upright
PNG_DEPTH = 24  # place of the bits of a channel in a PNG file
NEAR = 10  # of the 64 bits of a perceptual hash: photos that differ in no more look alike
BROKEN, LOOK_ALIKES, RECORD = 'broken.txt', 'look_alikes.txt', 'pictures.json'
SHOWN = 3


@dataclass(frozen=True)
class _Picture:
    """Hold the kind, the fault and the perceptual hash of one photo."""

    path: str
    kinds: tuple[str, ...] = ()
    fault: str | None = None
    bits: int = 0


def look_into_photos(paths: Mapping[str, Sequence[str]], out: Path) -> list[str]:
    """Decode the photos; raise if any is broken, and return notes on file types and on similar photos.

    If an earlier call checked the same paths, its stored notes are returned.

    Args:
        paths: Paths of all photos, by ``'train'``, ``'val'`` and ``'unlabelled'``.
        out: Folder for the lists of broken photos and look-alikes.

    Raises:
        ValueError: Some photos are broken; the message names the file that lists them.
    """
    record = out / RECORD
    hashes = importlib.util.find_spec('imagehash') is not None
    digest = hashlib.sha256(json.dumps([paths, hashes]).encode()).hexdigest()
    if record.is_file():
        known = json.loads(record.read_text())
        if known['digest'] == digest:
            return known['notes']
    total = sum(map(len, paths.values()))
    step = max(1, total / MOST)
    notes = [] if step == 1 else [SAMPLED.format(MOST, total)]
    for name in (BROKEN, LOOK_ALIKES):  # of an earlier call with other photos
        (out / name).unlink(missing_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = {
            part: list(pool.map(lambda path: _look(path, hashes), _spread(of_part, step)))
            for part, of_part in paths.items()
        }
    pictures = [picture for of_part in found.values() for picture in of_part]
    _refuse_broken(pictures, out)
    notes += _about_kinds(pictures)
    if hashes:
        notes += _about_look_alikes(found['train'], found['val'], out)
    else:
        notes.append("look-alikes are not searched: pip install 'r2kd_mm[photos]' (imagehash)")
    out.mkdir(parents=True, exist_ok=True)
    AtomicLocalBackend().put_text(json.dumps(dict(digest=digest, notes=notes), indent=2) + '\n', record)
    return notes


def _spread(paths: Sequence[str], step: float) -> list[str]:
    return [paths[int(place)] for place in np.arange(0, len(paths), step)]


def _look(path: str, hashes: bool) -> _Picture:
    try:
        pixels = LoadImageFromFile().transform(dict(img_path=path))['img']  # type: ignore[index]  # or an error
    except RunStopped as error:
        return _Picture(path, fault=str(error.__cause__))
    return _Picture(path, _kinds(path), bits=_hash(pixels) if hashes else 0)


def _kinds(path: str) -> tuple[str, ...]:
    """Name what is special about a file; nothing where Pillow does not say."""
    try:
        with Image.open(path) as image:
            found = [KINDS.get(image.mode)]
            found.append('transparent' if 'A' in image.mode or 'transparency' in image.info else None)
            found.append('16-bit' if image.mode[0] in 'IF' or _is_deep(path, image) else None)
            found.append('turned by EXIF' if image.getexif().get(ORIENTATION, 1) != 1 else None)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ()
    return tuple(kind for kind in found if kind)


def _is_deep(path: str, image: Image.Image) -> bool:
    """Return whether a PNG has 16 bits a channel, which Pillow hides where there are several."""
    if image.format != 'PNG':
        return False
    with open(path, 'rb') as file:
        return file.read(PNG_DEPTH + 1)[-1] == 16


def _hash(pixels: np.ndarray) -> int:
    import imagehash

    bits = imagehash.phash(Image.fromarray(pixels[..., ::-1])).hash
    return int.from_bytes(np.packbits(bits).tobytes(), 'big')


def _refuse_broken(pictures: Sequence[_Picture], out: Path) -> None:
    broken = [picture for picture in pictures if picture.fault]
    if not broken:
        return
    out.mkdir(parents=True, exist_ok=True)
    lines = [f'{picture.path}: {picture.fault}' for picture in broken]
    AtomicLocalBackend().put_text('\n'.join(lines) + '\n', out / BROKEN)
    raise ValueError(
        f'{len(broken)} of {len(pictures)} photos are broken, all listed in {str(out / BROKEN)!r}, such as '
        f'{"; ".join(lines[:SHOWN])}. Get them again, or take them out'
    )


def _about_kinds(pictures: Sequence[_Picture]) -> list[str]:
    counts = Counter(kind for picture in pictures for kind in picture.kinds)
    turned = counts.pop('turned by EXIF', 0)
    notes = []
    if counts:
        listed = ', '.join(f'{count} {kind}' for kind, count in counts.most_common())
        notes.append(f'{listed}: converted to RGB of 8 bits')
    if turned:
        notes.append(f'{turned} turned by EXIF: shown upright')
    return notes


def _about_look_alikes(train: Sequence[_Picture], val: Sequence[_Picture], out: Path) -> list[str]:
    """Note the validation photos that look like a training photo, and list them."""
    known = np.array([picture.bits for picture in train], dtype=np.uint64)
    lines = []
    for picture in val:
        differing = np.unpackbits((known ^ np.uint64(picture.bits)).view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
        if len(known) and differing.min() <= NEAR:
            lines.append(f'{picture.path} looks like {train[int(differing.argmin())].path}')
    if not lines:
        return []
    out.mkdir(parents=True, exist_ok=True)
    AtomicLocalBackend().put_text('\n'.join(lines) + '\n', out / LOOK_ALIKES)
    return [
        f'{len(lines)} of {len(val)} validation photos look like a training photo (perceptual hash, at most {NEAR} of '
        f'64 bits differ), listed in {str(out / LOOK_ALIKES)!r}: an accuracy on them flatters'
    ]
