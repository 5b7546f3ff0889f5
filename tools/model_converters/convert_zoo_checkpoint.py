"""Convert a public checkpoint of a network of r2kd_mm.zoo into one that our configs load, or back (--reverse).

python tools/model_converters/convert_zoo_checkpoint.py tiny/vgg13 vgg13_vanilla.pth checkpoints/vgg13_tiny.pth
python tools/model_converters/convert_zoo_checkpoint.py tiny/vgg8 work_dirs/run/epoch_240.pth vgg8.pth --reverse
"""

import argparse
import io
from pathlib import Path

from r2kd_mm.engine import clear_errors


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('name', help='the network, such as cifar/resnet20; r2kd_mm.zoo.list_models() names all')
    parser.add_argument('src', type=Path, help='the checkpoint to read; nothing in it is run')
    parser.add_argument('dst', type=Path, help='the file to write; its folder is made if need be')
    parser.add_argument(
        '--reverse', action='store_true', help='from our checkpoint to the public form; of a distillation, the student'
    )
    parser.add_argument(
        '--num-classes', type=int, help='classes of the checkpoint (default: those of the public one of this name)'
    )
    parser.add_argument('--force', action='store_true', help='replace dst where it exists')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Load, rename, write, report."""
    args = parse_args(argv)
    with clear_errors():
        import torch

        from r2kd_mm.checkpoint import load_checkpoint_file
        from r2kd_mm.engine import AtomicLocalBackend
        from r2kd_mm.zoo import convert_state_dict, revert_state_dict

        if args.dst.is_dir():
            raise IsADirectoryError(f'{str(args.dst)!r} is a folder; name the file to write')
        if args.dst.exists() and not args.force:
            raise FileExistsError(f'{str(args.dst)!r} exists; give another file, or --force to replace it')
        convert = revert_state_dict if args.reverse else convert_state_dict
        weights = convert(args.name, load_checkpoint_file(args.src), args.num_classes)
        # the key under which the authors' code, and MMEngine's, look for the weights
        checkpoint = {'model': weights} if args.reverse else {'state_dict': weights}
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        AtomicLocalBackend().put(buffer.getvalue(), args.dst)
        direction = 'our names -> public names' if args.reverse else 'public names -> our names'
        print(f'{args.name}: {len(weights)} tensors, {direction}\nread {args.src}\nwrote {args.dst}')


if __name__ == '__main__':
    main()
