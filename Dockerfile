# syntax=docker/dockerfile:1
# The repository with everything that `make` installs. The PyTorch of PyPI brings its CUDA libraries; the host needs only its driver.
#   docker build -t r2kd_mm .
#   docker run --rm --gpus all r2kd_mm
# Without CUDA, some gigabytes smaller:
#   docker build -t r2kd_mm:cpu --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu .
# On a base with CUDA tools of its own; any Debian or Ubuntu with Python 3.10 to 3.13 fits:
#   docker build -t r2kd_mm:cuda --build-arg BASE=nvidia/cuda:12.8.1-devel-ubuntu24.04 .
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

# libgl1 and libglib2.0-0 are what OpenCV opens; a base image of Python has its own Python already
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends -y git libgl1 libglib2.0-0 make \
    && { command -v python3 || apt-get install --no-install-recommends -y python3 python3-venv; } \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/r2kd_mm
COPY . .
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_NO_CACHE_DIR=1
RUN make install

ENV PATH=/opt/r2kd_mm/.venv/bin:${PATH}
CMD ["python", "tools/check_env.py"]
