"""Compare the speed and the pixels of JPEG decoders with those of OpenCV, which our LoadImageFromFile uses.

    pip install simplejpeg PyTurboJPEG    # the latter also needs libjpeg-turbo
    python benchmarks/speed/decode.py --turbojpeg /usr/lib/x86_64-linux-gnu/libturbojpeg.so.0

A decoder that is not installed is left out. The picture comes from scikit-learn and is decoded in several sizes.
"""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it cures what comes below

import argparse
import importlib
import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import torch
from common import describe, interleaved, quartiles, ratio, seconds, table, with_quartiles
from PIL import Image
from sklearn.datasets import load_sample_images

from r2kd_mm.environment import environment

OURS = 'OpenCV'
SIDES = (64, 256, 640, 1600)  # pixels
PIXELS = 3_000_000  # decoded in a round
QUALITY = 90
Decoder = Callable[[bytes], np.ndarray]


def decoders(turbojpeg: str | None = None) -> dict[str, Decoder]:
    """Return the installed decoders by name; each returns a BGR array of shape ``(H, W, 3)``."""

    def torchvision(content: bytes) -> np.ndarray:
        data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        return decode(data, mode=io_of_torchvision.ImageReadMode.RGB).permute(1, 2, 0).flip(2).numpy()

    found: dict[str, Decoder] = {
        OURS: lambda content: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR),
        'Pillow': lambda content: np.asarray(Image.open(io.BytesIO(content)).convert('RGB'))[..., ::-1],
    }
    with suppress(ImportError):
        simplejpeg = importlib.import_module('simplejpeg')
        found['simplejpeg'] = lambda content: simplejpeg.decode_jpeg(content, colorspace='BGR')
    with suppress(ImportError, RuntimeError, OSError):  # without the package, or without the library of C
        found['PyTurboJPEG'] = importlib.import_module('turbojpeg').TurboJPEG(turbojpeg).decode
    with suppress(ImportError, RuntimeError, AttributeError):  # its compiled operators may be of another torch
        io_of_torchvision = importlib.import_module('torchvision.io')
        decode = io_of_torchvision.decode_jpeg
        torchvision(jpeg(8))
        found['torchvision'] = torchvision
    return found


def jpeg(side: int) -> bytes:
    """Return a square photograph as a JPEG file."""
    picture = np.ascontiguousarray(load_sample_images().images[0][..., ::-1])
    square = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA if side < 400 else cv2.INTER_CUBIC)
    return cv2.imencode('.jpg', square, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def measure(side: int, found: dict[str, Decoder], rounds: int) -> dict[str, dict]:
    """Measure each decoder on a picture of ``side`` pixels: time in microseconds, and the largest difference."""
    content = jpeg(side)
    expected = found[OURS](content).astype(int)
    repeats = max(1, PIXELS // side**2)

    def case(decode: Decoder) -> Callable[[], float]:
        return lambda: seconds(lambda: [decode(content) for _ in range(repeats)]) / repeats * 1e6

    times = interleaved({name: case(decode) for name, decode in found.items()}, rounds)
    return {
        name: dict(
            microseconds=quartiles(taken),
            of_ours=ratio(taken, times[OURS]),
            difference=int(np.abs(found[name](content) - expected).max()),
        )
        for name, taken in times.items()
    }


def markdown(result: dict) -> str:
    """Format the result."""
    rows = [
        [
            str(side),
            name,
            with_quartiles(case['microseconds'], digits=0),
            with_quartiles(case['of_ours'], 'ratio', digits=2),
            str(case['difference']),
        ]
        for side, cases in result['sides'].items()
        for name, case in cases.items()
    ]
    head = ['side', 'decoder', 'us an image', f'time of {OURS}', 'largest difference of a pixel']
    return f'{table(head, rows)}\n\n{describe(result["environment"])}'


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--turbojpeg', metavar='FILE', help='shared library of libjpeg-turbo (default: where it looks)')
    parser.add_argument('--rounds', type=int, default=15, help='measured rounds (default %(default)s)')
    parser.add_argument('--out', type=Path, metavar='JSON', help='file to write, and one with .md')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    found = decoders(args.turbojpeg)
    sides = {side: measure(side, found, args.rounds) for side in SIDES}
    result = dict(environment=environment(), quality=QUALITY, sides=sides)
    text = markdown(result)
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + '\n')
        args.out.with_suffix('.md').write_text(text + '\n')
    print(text)


if __name__ == '__main__':
    main()
