"""Define the version number of the package; it is stated nowhere else."""

__version__ = '0.2.0.dev0'
