# syntax=docker/dockerfile:1
# Both servers in one image; the Deployments say which of them runs.
# The digest decides; the tag says to people what it is. Renew both together: docker buildx imagetools inspect python:3.13-slim
ARG PYTHON=python:3.13.13-slim@sha256:aa938a849bcb82dce8f49480f056ab82bf5c1c3ebc294f0430f37b6820e7f286

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
# What decides of a review is compiled (docs/adr/0006-what-decides-is-compiled.md); nothing of the compiler goes into the image.
# hadolint ignore=DL3008
RUN command -v gcc || { apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -r /var/lib/apt/lists/*; }
RUN python -m venv /opt/slicewise
COPY requirements/run.txt requirements/dev.txt requirements/
# The pins of what builds stand among those of development.
RUN awk '/^[a-z]/ {wanted = /^(ast-serialize|librt|mypy|mypy-extensions|pathspec|setuptools)==/} wanted' requirements/dev.txt > requirements/build.txt \
 && /opt/slicewise/bin/pip install --no-compile --require-hashes --no-deps --only-binary :all: -r requirements/build.txt \
 && /opt/slicewise/bin/pip install --no-compile --require-hashes --no-deps --only-binary :all: -r requirements/run.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY slicewise slicewise
COPY admission admission
COPY queue_sync queue_sync
COPY release/sbom.py release/
# Of the official client, kubeconfig files and logins are used; its models and calls are most of its size, and are imported
# by name alone, so they need not be there (tests/manifests/test_image.py).
RUN SLICEWISE_COMPILED=1 /opt/slicewise/bin/pip install --no-compile --no-deps --no-build-isolation . \
 && /opt/slicewise/bin/pip check \
 && mkdir -p /opt/slicewise/share \
 && /opt/slicewise/bin/python release/sbom.py > /opt/slicewise/share/sbom.cdx.json \
 && /opt/slicewise/bin/pip uninstall --yes --requirement requirements/build.txt pip \
 && client=$(/opt/slicewise/bin/python -c 'import kubernetes; print(kubernetes.__path__[0])') \
 && rm -r "$client/aio" \
 && find "$client/client/models" "$client/client/api" -name '*.py' ! -name __init__.py -delete \
 && find /opt/slicewise -name __pycache__ -prune -exec rm -r {} + \
 && /opt/slicewise/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/slicewise/lib

FROM ${PYTHON}
ARG VERSION=dev
ARG REVISION=unknown
ARG SOURCE=
LABEL org.opencontainers.image.title="Slicewise" \
      org.opencontainers.image.description="The webhook and the controller that give GPU work its slice and queues their quota" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}"
COPY --from=build /opt/slicewise /opt/slicewise
# Nothing is written: the root filesystem is read-only where it runs.
ENV PATH=/opt/slicewise/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1
# A number, so that runAsNonRoot can be checked.
USER 65532:65532
EXPOSE 9443 8080
ENTRYPOINT ["slicewise"]
CMD ["--help"]
