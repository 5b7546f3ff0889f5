"""Check the licence that a user gives for an export, and write it as an SPDX identifier such as ``Apache-2.0``."""

from __future__ import annotations

import re

OWN, OTHER = 'LicenseRef-', 'other'


def spdx_licence(licence: str) -> str:
    """Return a licence as SPDX spells it; raise if SPDX does not list it.

    Args:
        licence: SPDX identifier or expression, such as ``'apache-2.0'`` or ``'MIT OR Apache-2.0'``, or
            ``'LicenseRef-NAME'`` for a licence that SPDX does not list.

    Raises:
        ValueError: SPDX does not list the licence.
        ImportError: The installed version of the package ``packaging`` has no list of licences.

    Example:
        >>> spdx_licence('apache-2.0')
        'Apache-2.0'
    """
    try:
        from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
    except ImportError:
        raise ImportError("--license needs the package packaging>=24.2: pip install 'r2kd_mm[export]'") from None
    try:
        return canonicalize_license_expression(licence)
    except InvalidLicenseExpression as error:
        raise ValueError(
            f'--license takes an identifier of SPDX, such as Apache-2.0, MIT or CC-BY-4.0, or {OWN}NAME for one of '
            f'your own, got {licence!r} ({error})'
        ) from None


def licence_lines(licence: str) -> dict[str, str]:
    """Return what model hubs read at the top of a card: identifiers in small letters, or a name for another licence.

    Args:
        licence: In the spelling of SPDX.

    Example:
        >>> licence_lines('Apache-2.0'), licence_lines('MIT OR Apache-2.0')
        ({'license': 'apache-2.0'}, {'license': 'other', 'license_name': 'MIT OR Apache-2.0'})
    """
    if ' ' in licence or licence.startswith(OWN):
        return dict(license=OTHER, license_name=licence)
    short = re.sub('-(only|or-later)$', '', licence)  # hubs know the GNU licences by version alone
    return dict(license=short.lower(), **({} if short == licence else dict(license_name=licence)))
