# syntax=docker/dockerfile:1
# The machine of Pretrain on a TPU v2, v3 or v5e: as the pipeline's image, with the TPU build of TensorFlow and libtpu.
# Build it from the root of the repository, with the SHA-256 of libtpu.so:
# docker build -f infra/docker/tpu.Dockerfile --build-arg LIBTPU_SHA256=... .

# Pinned by tag, for nobody here could ask a registry for a digest. In production: --build-arg PYTHON_IMAGE=python@sha256:...
# TFX 1.16, since there is no TPU build of TensorFlow 2.21: build the pipeline's image of the same stack beside it.
ARG PYTHON_IMAGE=python:3.10-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
# Some dependencies exist only as source, and crcmod and pyfarmhash are C and C++; the compiler stays in this stage.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY infra/docker/uv.txt infra/docker/tpu.txt /tmp/
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/uv.txt
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON=/usr/local/bin/python3.10 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
# Both builds fill the folder `tensorflow`, so the common one is left out rather than overwritten. The TPU build asks for a
# libtpu that no registry has, hence --no-deps: uv.lock brings its other dependencies, and libtpu comes below.
RUN uv sync --locked --extra pipeline --no-dev --no-install-project --no-install-package tensorflow \
    && uv pip install --python /opt/venv/bin/python --no-deps --require-hashes --requirement /tmp/tpu.txt
COPY trainer trainer
COPY components components
COPY pipeline pipeline
# Inexact: an exact one would remove the TPU build, which the lock does not know.
RUN uv sync --locked --extra pipeline --no-dev --no-editable --inexact --no-install-package tensorflow

# The libtpu that belongs to TensorFlow 2.16.2 by Google's table. Its hash has no default: it was never downloaded here.
FROM ${PYTHON_IMAGE} AS libtpu
ARG LIBTPU_VERSION=1.10.1
ARG LIBTPU_SHA256=
ADD https://storage.googleapis.com/cloud-tpu-tpuvm-artifacts/libtpu/${LIBTPU_VERSION}/libtpu.so /lib/libtpu.so
RUN test "$(sha256sum < /lib/libtpu.so)" = "${LIBTPU_SHA256}  -" \
    || { echo "LIBTPU_SHA256 is '${LIBTPU_SHA256}', the file's is $(sha256sum < /lib/libtpu.so)"; exit 1; } \
    && chmod 0644 /lib/libtpu.so

FROM ${PYTHON_IMAGE} AS runtime
RUN useradd --create-home --uid 10001 simclr
COPY --from=builder /opt/venv /opt/venv
# Where TensorFlow looks for it.
COPY --from=libtpu /lib/libtpu.so /lib/libtpu.so
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TF_USE_LEGACY_KERAS=1
USER 10001
WORKDIR /home/simclr
# Vertex AI's CustomJob brings the command; by hand the image explains the trainer.
ENTRYPOINT ["python", "-m", "trainer"]
CMD ["--help"]
