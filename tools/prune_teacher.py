"""Prune copies of a trained classifier by several pruners and amounts; compare their predictions with the original's.

R2KD prunes the smallest tenth of the weights of every layer; this tool shows whether that suits your teacher. With
--save, it also writes the pruned weights.
"""

import argparse
from pathlib import Path

from r2kd_mm.engine import clear_errors
from r2kd_mm.engine.arguments import add_config_options

AMOUNTS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config of the classifier; of a distillation, the student is pruned')
    parser.add_argument('checkpoint', help='its trained weights')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder of tables, plot and weights')
    parser.add_argument(
        '--pruners',
        nargs='+',
        metavar='PRUNER',
        help='of magnitude, global, random, channels, and N:M, which has its amount in its name (default: those of '
        'these and 2:4 that suit the network and, with --save, its config)',
    )
    parser.add_argument(
        '--amounts',
        nargs='+',
        type=float,
        default=AMOUNTS,
        metavar='AMOUNT',
        help='fractions to remove, in [0, 1) (default: %(default)s)',
    )
    parser.add_argument(
        '--augmented',
        metavar='AUGMENTATION',
        help='look at the view that this augmentation, such as CutMix, makes of the validation images',
    )
    parser.add_argument('--save', action='store_true', help='write each pruned network as a checkpoint, too')
    add_config_options(parser, 'change fields of the config: val_dataloader.batch_size=64')
    return parser.parse_args()


def main() -> None:
    """Run the tool."""
    args = parse_args()
    with clear_errors():
        from r2kd_mm.report.prune_teacher import prune_teacher

        prune_teacher(args)


if __name__ == '__main__':
    main()
