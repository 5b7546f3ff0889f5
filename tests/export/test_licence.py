"""A licence must be on the SPDX list, and is written where model hubs read it."""

import pytest

from r2kd_mm.export.licence import licence_lines, spdx_licence


@pytest.mark.parametrize(
    ('given', 'named', 'lines'),
    [
        ('mit', 'MIT', dict(license='mit')),
        ('CC-BY-4.0', 'CC-BY-4.0', dict(license='cc-by-4.0')),
        ('gpl-3.0-only', 'GPL-3.0-only', dict(license='gpl-3.0', license_name='GPL-3.0-only')),
        ('mit or apache-2.0', 'MIT OR Apache-2.0', dict(license='other', license_name='MIT OR Apache-2.0')),
        ('LicenseRef-Ours', 'LicenseRef-Ours', dict(license='other', license_name='LicenseRef-Ours')),
    ],
)
def test_it_is_spelled_as_spdx_and_as_hubs_do(given, named, lines):
    assert spdx_licence(given) == named
    assert licence_lines(named) == lines


@pytest.mark.parametrize('given', ['free', '', 'Apache 2.0'])
def test_others_are_refused(given):
    with pytest.raises(
        ValueError, match=f'--license takes an identifier of SPDX, such as Apache-2.0, .*, got {given!r}'
    ):
        spdx_licence(given)
