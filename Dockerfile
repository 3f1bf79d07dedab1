# syntax=docker/dockerfile:1
# Both servers in one image; the Deployments say which of them runs.
# The digest decides; the tag says to people what it is. Renew both together: docker buildx imagetools inspect python:3.13-slim
ARG PYTHON=python:3.13.13-slim@sha256:aa938a849bcb82dce8f49480f056ab82bf5c1c3ebc294f0430f37b6820e7f286

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/slicewise
COPY requirements/run.txt requirements/dev.txt requirements/
# The build tool's pin stands among those of development.
RUN awk '/^[a-z]/ {wanted = /^setuptools==/} wanted' requirements/dev.txt > requirements/build.txt \
 && /opt/slicewise/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/build.txt \
 && /opt/slicewise/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY slicewise slicewise
COPY admission admission
COPY queue_sync queue_sync
RUN /opt/slicewise/bin/pip install --no-deps --no-build-isolation . \
 && /opt/slicewise/bin/pip check \
 && /opt/slicewise/bin/pip uninstall --yes setuptools pip \
 && /opt/slicewise/bin/python -m compileall -q /opt/slicewise/lib

FROM ${PYTHON}
COPY --from=build /opt/slicewise /opt/slicewise
# Nothing is written: the root filesystem is read-only where it runs.
ENV PATH=/opt/slicewise/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1
# A number, so that runAsNonRoot can be checked.
USER 65532:65532
EXPOSE 9443 8080
ENTRYPOINT ["slicewise"]
CMD ["--help"]
