"""Find the configs of the installed package."""

from pathlib import Path

MIM = Path(__file__).parent / '.mim'  # where mim wants them, and setup.py puts them


def base_folder(package: str, installed: str) -> str:
    """Return the folder in which a config finds ``from PACKAGE.configs... import *``.

    Args:
        package: Name of the package.
        installed: Its folder, which is the answer for every package but this one.

    Example:
        >>> base_folder('mmdet', '/site-packages/mmdet')
        '/site-packages/mmdet'
    """
    return str(MIM) if package == 'r2kd_mm' else installed
