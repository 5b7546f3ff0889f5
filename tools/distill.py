"""From a folder of photos and any teacher to an exported student, as the command `r2kd-mm distill`."""

import sys

from r2kd_mm.command import main

if __name__ == '__main__':
    main(['distill', *sys.argv[1:]])
