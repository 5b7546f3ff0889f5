"""Add a table of installed and required packages to the error of a failed import of torch or an OpenMMLab package.

The table comes from :mod:`r2kd_mm.check_env`.
"""

from collections.abc import Callable


class UnusablePackages(ImportError):
    """A package of the stack is missing or does not fit; the message holds the table.

    Example:
        >>> issubclass(UnusablePackages, ImportError)
        True
    """


def explain_import_errors(load: Callable[[], object]) -> None:
    """Call ``load``, which imports packages of the stack; turn an import error into one with the table.

    Raises:
        UnusablePackages: A package is missing, or does not admit the version of another.

    Example:
        >>> def load():
        ...     raise ImportError("No module named 'mmcv'")
        >>> try:
        ...     explain_import_errors(load)
        ... except UnusablePackages as error:
        ...     print(str(error).splitlines()[0])
        r2kd_mm cannot use the installed packages: No module named 'mmcv'
    """
    try:
        load()
    except UnusablePackages:
        raise
    except (ImportError, AssertionError) as error:  # mmrazor asserts the version of mmcv
        if (getattr(error, 'name', None) or '').startswith('r2kd_mm'):
            raise
        # only now: `python -m r2kd_mm.check_env` warns if importing the package has imported that module
        from r2kd_mm.check_env import report

        raise UnusablePackages(f'r2kd_mm cannot use the installed packages: {error}\n\n{report()}') from error
