"""Compute and store, before training, all teacher logits that a config with stored logits (a replay) reads."""

import argparse

from r2kd_mm.engine import clear_errors
from r2kd_mm.engine.arguments import add_run_arguments


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_run_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Build the Runner of the config, and fill its store."""
    args = parse_args()
    with clear_errors():
        from mmengine.runner import Runner

        from r2kd_mm.engine.run_config import load_run_config
        from r2kd_mm.hooks.replay import fill_store

        cfg = load_run_config(args)
        fill_store(Runner.from_cfg(cfg))


if __name__ == '__main__':
    main()
