"""Distil any teacher into an exported student, on a folder of photos; the same as the command `r2kd-mm distill`."""

import sys

from r2kd_mm.command import main

if __name__ == '__main__':
    main(['distill', *sys.argv[1:]])
