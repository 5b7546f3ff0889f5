"""Packaging; the requirements live in requirements/, the version in r2kd_mm/version.py."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def read_requirements(name: str) -> list[str]:
    """The requirements in requirements/<name>.txt, with the files that it includes."""
    requirements = []
    for line in (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines():
        if line.startswith('-r '):
            requirements += read_requirements(line[3:].strip().removesuffix('.txt'))
        elif line and not line.startswith('#'):
            requirements.append(line)
    return requirements


readme = ROOT / 'README.md'
setup(
    name='r2kd_mm',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'r2kd_mm' / 'version.py').read_text()).group(1),
    description='Correlation-based knowledge distillation (R2KD and its relatives) for OpenMMLab classifiers',
    long_description=readme.read_text(encoding='utf-8') if readme.is_file() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['r2kd_mm', 'r2kd_mm.*']),
    python_requires='>=3.10,<3.14',
    install_requires=read_requirements('runtime'),
    extras_require={name: read_requirements(name) for name in ('demo', 'export', 'tests')},
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.11',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
