# syntax=docker/dockerfile:1
# Builds the image of every role: worker, exporter, topics, demo.  The command says which.
#
#   docker build -t agent-streams:0.1.0 .
#   docker run --rm agent-streams:0.1.0 worker --help

FROM python:3.11.14-slim-bookworm AS build
# mypyc needs a C compiler, and on ARM so does Faust; it stays behind in this stage.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/agent-streams
# What is pinned changes rarely: a change of the source does not install it again.
COPY requirements-runtime.lock ./
RUN /opt/agent-streams/bin/pip install --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY streams ./streams
# The path of an event is compiled (about half the time per event, the same results to the byte).
RUN HATCH_BUILD_HOOK_ENABLE_MYPYC=1 pip wheel --no-deps --wheel-dir dist . \
 && /opt/agent-streams/bin/pip install --no-deps --no-index dist/*.whl \
 && rm -rf streams \
 && /opt/agent-streams/bin/python -c "import sys, streams.stage.sessions as compiled; sys.exit(not compiled.__file__.endswith('.so'))"

FROM python:3.11.14-slim-bookworm
LABEL org.opencontainers.image.title="AgentStreams" \
      org.opencontainers.image.description="Exactly-once streaming tables, alerts, circuit breakers and Prometheus metrics for LLM agents, on Kafka." \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/agent-streams/agent-streams" \
      org.opencontainers.image.documentation="https://github.com/agent-streams/agent-streams/blob/main/docs/deploy.md" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.14-slim-bookworm"
# A fixed number, so that clusters can hold the image to it (runAsNonRoot) and files can be given to it.
RUN groupadd --gid 10001 agent-streams \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin agent-streams
COPY --from=build /opt/agent-streams /opt/agent-streams
# Nothing is written but to /tmp: the root file system can be read-only.
ENV PATH=/opt/agent-streams/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
EXPOSE 8464 8465
STOPSIGNAL SIGTERM
# One image, two servers: the exporter answers on 8464, a worker with a health port on 8465.  Whichever runs must answer.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.error, urllib.request\nfor port in (8464, 8465):\n try: raise SystemExit(urllib.request.urlopen(f'http://127.0.0.1:{port}/-/healthy', timeout=2).status != 200)\n except urllib.error.URLError: pass\nraise SystemExit(1)"]
ENTRYPOINT ["agent-streams"]
CMD ["--help"]
