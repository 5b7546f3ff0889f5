"""Zero the smallest-magnitude weights of a trained classifier, and say how many each layer lost."""

import r2kd_mm  # isort: skip  # noqa: F401  first, because it mends what mmpretrain's imports meet

import argparse
import io

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from r2kd_mm.distillers.teacher import load_weights_
from r2kd_mm.engine import AtomicLocalBackend, clear_errors
from r2kd_mm.pruning import MagnitudePruner
from r2kd_mm.pruning.magnitude import SCOPES
from r2kd_mm.registry import MODELS


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of the classifier; of a distillation, the student is pruned')
    parser.add_argument('checkpoint', help='its trained weights')
    parser.add_argument('out', help='file to write: a checkpoint with the pruned weights and nothing else')
    parser.add_argument('--amount', type=float, default=0.1, help='fraction to remove, in [0, 1) (default %(default)s)')
    parser.add_argument(
        '--scope',
        choices=SCOPES,
        default='layer',
        help='the fraction of each layer, or the smallest of all (default %(default)s)',
    )
    return parser.parse_args()


def main() -> None:
    """Load, prune, report, write."""
    args = parse_args()
    with clear_errors():
        pruner = MagnitudePruner(args.amount, args.scope)
        cfg = Config.fromfile(args.config)
        init_default_scope(cfg.get('default_scope', 'r2kd_mm'))
        model = MODELS.build(cfg.model.get('architecture', cfg.model))
        load_weights_(model, args.checkpoint)
        pruned, report = pruner(model)
        print(report)
        checkpoint = dict(meta=dict(pruner=str(pruner)), state_dict=pruned.state_dict())
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        AtomicLocalBackend().put(buffer.getvalue(), args.out)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
