# syntax=docker/dockerfile:1
# One image for every role: docker-compose.yml says which command each service runs.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/tocsin
ENV PATH=/opt/tocsin/bin:$PATH
WORKDIR /src
# The libraries first: they change less often than the code, and stay a cached layer.
COPY requirements.lock ./
RUN pip install --require-hashes --requirement requirements.lock
COPY . .
RUN pip install --no-deps --no-build-isolation .

FROM python:3.13-slim
# PID 1 must pass signals on and reap orphans, which Python does not. tini sends SIGTERM to its child alone, and that is
# right: the Dramatiq master tells its own workers, and a worker that gets a second SIGTERM may hang.
# User and group by number: `chgrp 10001` on the host is how key files are given to them (deploy/local/README.md).
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 tocsin \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/tocsin --create-home --shell /usr/sbin/nologin tocsin
COPY --from=build /opt/tocsin /opt/tocsin
ENV PATH=/opt/tocsin/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TOCSIN_LOG_FORMAT=json
USER tocsin
WORKDIR /var/lib/tocsin
ENTRYPOINT ["/usr/bin/tini", "--"]
CMD ["tocsin", "--help"]
