# The one image of operator and sidecar: an interpreter, the locked dependencies, our wheel; no compiler, no pip, no shell
# script. It is built without network, from wheels that lie in build/wheels:
#
#   export HNSWLIB_NO_NATIVE=1 CFLAGS=-march=x86-64-v3 CXXFLAGS=-march=x86-64-v3 LDFLAGS=-Wl,--as-needed
#   pip wheel --no-cache-dir --no-deps --require-hashes -r requirements.lock -w build/wheels/dependencies
#   pip wheel --no-deps . -w build/wheels/project
#   docker build -t vectorindex-operator:dev .
#
# (Python 3.11 on a glibc not newer than the base's. `make demo` does all of it by itself, on a base of its own.)
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS dependencies
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/vectorindex
COPY build/wheels/dependencies /wheels
# Bytecode is written here, once: the root file system is read-only where the image runs. It is not checked against
# the sources' times, because a builder may set those.
RUN /build/bin/pip --python /opt/vectorindex/bin/python install \
      --no-index --no-deps --no-compile --disable-pip-version-check --root-user-action ignore /wheels/*.whl \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/vectorindex/lib

FROM dependencies AS project
COPY build/wheels/project /wheels
RUN /build/bin/pip --python /opt/vectorindex/bin/python install --prefix /project \
      --no-index --no-deps --no-compile --disable-pip-version-check --root-user-action ignore /wheels/vectorindex_operator-*.whl \
 && python3 -m compileall -q --invalidation-mode unchecked-hash -s /project -p /opt/vectorindex /project/lib \
 # A wheel that does not fit the base fails the build, not a pod.
 && cp -a /project/. /opt/vectorindex \
 && /opt/vectorindex/bin/python -c "import aiohttp, cryptography, hnswlib, jwt, kopf, kubernetes, numpy, pydantic, vectorindex.engine._kernels"

FROM ${BASE}
ENV PATH=/opt/vectorindex/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /
CMD ["vectorindex-operator"]
# One layer that changes with requirements.lock, and a small one that changes with the code.
COPY --from=dependencies /opt/vectorindex /opt/vectorindex
COPY --from=project /project /opt/vectorindex
