"""Run the command ``r2kd-mm``, which distils a student from a teacher on a folder of photos.

The command answers ``--help`` before it imports PyTorch.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from r2kd_mm.engine import clear_errors
from r2kd_mm.photos.arguments import add_arguments
from r2kd_mm.version import __version__

DISTILL = (
    'From a folder of photos and any teacher to an exported student. The same call continues an interrupted '
    'one, and skips what is done.'
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run the command that it names."""
    parser = argparse.ArgumentParser(prog='r2kd-mm', description='Knowledge distillation by R2KD and its relatives.')
    parser.add_argument('--version', action='version', version=f'r2kd_mm {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')
    add_arguments(commands.add_parser('distill', help='a folder of photos and a teacher', description=DISTILL))
    args = vars(parser.parse_args(arguments))
    del args['command']
    run(args)


def run(options: dict) -> None:
    """Distill as the command line says; end with a clear error where it cannot."""
    with clear_errors():
        try:
            import r2kd_mm

            r2kd_mm.distill(**options)
        except KeyboardInterrupt:
            print(
                '\ninterrupted; the same command skips what is finished and continues from the last checkpoints',
                file=sys.stderr,
            )
            sys.exit(1)


if __name__ == '__main__':
    main()
