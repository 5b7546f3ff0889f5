"""Predict FLOPs, memory and a lower bound on the time of one training step of a config, without GPU or data."""

import argparse

from r2kd_mm.engine import clear_errors
from r2kd_mm.engine.arguments import add_config_options


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config of a training')
    parser.add_argument('--device', metavar='CARD', help='h100, a100, rtx4090 ...; cuda is the GPU of this machine')
    parser.add_argument('--memory', metavar='SIZE', help="80GB; default: the card's")
    parser.add_argument('--flops', type=float, help='operations a second of a card without a name, such as 300e12')
    parser.add_argument('--bandwidth', type=float, help='bytes a second of its memory, such as 2e12')
    parser.add_argument('--batch-size', type=_positive, metavar='N', help="images of a batch (default: the config's)")
    parser.add_argument('--image-size', type=_positive, metavar='PIXELS', help="side (default: the pipeline's)")
    parser.add_argument('--num-images', type=_positive, metavar='N', help='of the training set, for a replay on disk')
    parser.add_argument('--only-config', action='store_true', help='plan the config alone, without --amp and the like')
    add_config_options(parser, 'change fields of the config: model.teacher_engine=fast')
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, got {number}')
    return number


def main() -> None:
    """Plan, print, and fail where the step does not fit."""
    args = vars(parse_args())
    with clear_errors():
        from r2kd_mm.planning.plan import make_plan

        plan = make_plan(options=args.pop('cfg_options'), **args)
        print(plan.to_markdown())
        if plan.problem:
            raise ValueError(plan.problem)


if __name__ == '__main__':
    main()
