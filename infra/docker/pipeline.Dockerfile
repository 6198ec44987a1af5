# syntax=docker/dockerfile:1
# Every node of the pipeline, and Dataflow's workers: TFX, the locked dependencies and this project, compiled to bytecode.
# Build it from the root of the repository: docker build -f infra/docker/pipeline.Dockerfile .

# Pinned by tag, for nobody here could ask a registry for a digest. Give digests in production:
# --build-arg PYTHON_IMAGE=python@sha256:... --build-arg BEAM_IMAGE=apache/beam_python3.13_sdk@sha256:...
# TFX 1.21, whose packages need the glibc of Debian 13. The Python tells the stack; TFX 1.16, as in the image for TPUs, is
# --build-arg PYTHON_IMAGE=python:3.10-slim-bookworm --build-arg BEAM_IMAGE=apache/beam_python3.10_sdk:2.64.0
ARG PYTHON_IMAGE=python:3.13-slim-trixie
# The version of apache-beam in uv.lock for that Python: the launcher and the SDK have to be of one release.
ARG BEAM_IMAGE=apache/beam_python3.13_sdk:2.74.0

FROM ${BEAM_IMAGE} AS beam

FROM ${PYTHON_IMAGE} AS builder
# Some dependencies exist only as source, and crcmod and pyfarmhash are C and C++; the compiler stays in this stage.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY infra/docker/uv.txt /tmp/uv.txt
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/uv.txt
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON=/usr/local/bin/python3 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
# Dependencies first: a change of our code does not install them again. `--locked` checks each file against its hash.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --extra pipeline --no-dev --no-install-project
COPY trainer trainer
COPY components components
COPY pipeline pipeline
# Not editable: the package is importable from any working directory, and /src is not part of the image.
RUN uv sync --locked --extra pipeline --no-dev --no-editable

FROM ${PYTHON_IMAGE} AS runtime
RUN useradd --create-home --uid 10001 simclr
COPY --from=builder /opt/venv /opt/venv
COPY --from=beam /opt/apache/beam/boot /opt/apache/beam/boot
# Beam's launcher would otherwise make a virtual environment over the system's Python, in which /opt/venv does not exist.
ENV PATH=/opt/venv/bin:$PATH \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_USE_LEGACY_KERAS=1
USER 10001
WORKDIR /home/simclr
# For Dataflow, which gives arguments only. Kubeflow and CustomJobs bring a command, which takes the place of this one.
ENTRYPOINT ["/opt/apache/beam/boot"]
