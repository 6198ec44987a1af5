# syntax=docker/dockerfile:1
# The service on Cloud Run that starts runs: no TFX, no TensorFlow, only what it imports, compiled to bytecode.
# Build it from the root of the repository: docker build -f infra/docker/trigger.Dockerfile .

# Pinned by tag, for nobody here could ask a registry for a digest. Give one in production:
# --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS builder
COPY infra/docker/uv.txt /tmp/uv.txt
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/uv.txt
ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/venv \
    UV_PYTHON=/usr/local/bin/python3 \
    UV_PYTHON_DOWNLOADS=never
WORKDIR /src
# The group of the lock file, each file checked against its hash. `--locked` fails where pyproject.toml says otherwise.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --only-group trigger --no-install-project
# File by file: what the service imports, and nothing that would need more packages than it has.
WORKDIR /opt/service
COPY components/__init__.py components/google_calls.py components/
COPY pipeline/__init__.py pipeline/__init__.py
COPY pipeline/runners/__init__.py pipeline/runners/google_rest.py pipeline/runners/job_template.py \
    pipeline/runners/vertex_jobs.py pipeline/runners/
COPY infra/trigger infra/trigger
RUN python -m compileall -q .

FROM ${PYTHON_IMAGE} AS runtime
RUN useradd --create-home --uid 10001 simclr
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/service /opt/service
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /opt/service
# Cloud Run says on which port, by PORT.
ENTRYPOINT ["gunicorn", "--config", "python:infra.trigger.server"]
