"""Predict the class of an image, or of each image of a folder, with an exported student.

python tools/predict.py exports/student photos --top 3
"""

import argparse
import json
import sys
from dataclasses import asdict

from r2kd_mm.engine import RunStopped, clear_errors


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'model', help='folder that export_student.py wrote, of any format; code in it is run: open what you trust'
    )
    parser.add_argument('images', help='an image, or a folder of images')
    parser.add_argument('--top', type=int, default=5, help='how many classes to name (default %(default)s)')
    parser.add_argument('--json', action='store_true', help='print one JSON list, for a program')
    args = parser.parse_args()
    if args.top < 1:
        parser.error(f'--top must be at least 1, got {args.top}')
    return args


def main() -> None:
    """Predict and print; an image of which nothing can be said is named, and the others are answered all the same."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.export import Predictor
        from r2kd_mm.export.preprocessing import list_images

        predictor = Predictor(args.model)
        records, failed = [], False
        for path in list_images(args.images):
            try:
                predictions = predictor(path, args.top)
            except (RunStopped, ValueError) as error:  # broken, or of a size that the network cannot take
                print(f'error: {error}', file=sys.stderr)
                failed = True
                continue
            records.append(dict(image=str(path), predictions=[asdict(prediction) for prediction in predictions]))
            if not args.json:
                print(path)
                for prediction in predictions:
                    print(f'  {prediction.probability:7.2%}  {prediction.name}')
        if args.json:
            print(json.dumps(records, indent=2, ensure_ascii=False))
        if failed:
            sys.exit(1)


if __name__ == '__main__':
    main()
