"""Packaging; the requirements live in requirements/, the version in r2kd_mm/version.py."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.editable_wheel import editable_wheel

ROOT = Path(__file__).resolve().parent
REPOSITORY = ''  # OWNER: the public address, such as https://github.com/NAME/r2kd_mm; the links below begin with it
PLACES = {  # in a repository on GitHub
    'Source': '',
    'Documentation': '/blob/main/docs/index.md',
    'Issues': '/issues',
    'Changelog': '/blob/main/CHANGELOG.md',
}
MIM_CONTENT = ('configs', 'tools', 'model-index.yml')  # what mim and `r2kd_mm::` config names look for


class BuildWithMim(build_py):
    """Put configs and tools into the folder ``r2kd_mm/.mim``: copies in a wheel, links in an editable installation."""

    def run(self) -> None:
        super().run()
        target = (ROOT if self.editable_mode else Path(self.build_lib)) / 'r2kd_mm' / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM_CONTENT:
            if self.editable_mode:
                (target / name).symlink_to(ROOT / name)
            elif (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__'))
            else:
                shutil.copy2(ROOT / name, target / name)


class EditableWithMim(editable_wheel):
    """Write the path of the package into ``top_level.txt``; mim looks there for an editable installation."""

    def _ensure_dist_info(self) -> None:
        super()._ensure_dist_info()
        Path(self.dist_info_dir, 'top_level.txt').write_text(f'{ROOT / "r2kd_mm"}\n')


def read_requirements(name: str) -> list[str]:
    """Read requirements/<name>.txt and the files that it includes."""
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
    author='The r2kd_mm contributors',  # as in CITATION.cff
    license='Apache-2.0',
    license_files=['LICENSE'],
    cmdclass=dict(build_py=BuildWithMim, editable_wheel=EditableWithMim),
    packages=find_packages(include=['r2kd_mm', 'r2kd_mm.*']),
    package_data={'r2kd_mm': ['py.typed'], 'r2kd_mm.report': ['page.html']},
    entry_points={'console_scripts': ['r2kd-mm = r2kd_mm.command:main']},
    python_requires='>=3.10,<3.14',
    install_requires=read_requirements('runtime'),
    extras_require={
        name: read_requirements(name)
        for name in (
            'analysis',
            'demo',
            'docs',
            'executorch',
            'export',
            'openvino',
            'photos',
            'ray',
            'slurm',
            'tests',
            'tune',
        )
    },
    project_urls={
        **{name: f'{REPOSITORY}{path}' for name, path in PLACES.items() if REPOSITORY},
        'Paper': 'https://doi.org/10.1109/TKDE.2024.3438074',
        'Preprint': 'https://arxiv.org/abs/2311.13934',
    },
    keywords=[
        'knowledge distillation',
        'model compression',
        'image classification',
        'correlation distance',
        'network pruning',
        'R2KD',
        'OpenMMLab',
        'PyTorch',
    ],
    classifiers=[  # the license stands in its own field (PEP 639)
        'Development Status :: 3 - Alpha',
        'Environment :: Console',
        'Environment :: GPU :: NVIDIA CUDA',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Natural Language :: English',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Recognition',
        'Topic :: Software Development :: Libraries :: Python Modules',
        'Typing :: Typed',
    ],
)
