"""Find the folder from which MMEngine imports the configs of an installed package, such as r2kd_mm."""

from pathlib import Path

MIM = Path(__file__).parent / '.mim'  # where mim wants them, and setup.py puts them


def base_folder(package: str, installed: str) -> str:
    """Return the folder in which MMEngine looks for ``configs`` if a config has ``from PACKAGE.configs... import *``.

    Args:
        package: Name of the package.
        installed: Folder of the installed package; returned unchanged for every package except r2kd_mm.

    Example:
        >>> base_folder('mmdet', '/site-packages/mmdet')
        '/site-packages/mmdet'
    """
    return str(MIM) if package == 'r2kd_mm' else installed
