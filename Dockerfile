# Lockgate, every program in one image: `docker run lockgate serve`, `run`, `migrate`, and the rest of `lockgate --help`.
# The embedded PostgreSQL is not in it.
#
# Behind a proxy the engine's own settings serve (HTTPS_PROXY). With a package index of your own:
#   docker build --build-arg PIP_INDEX_URL .

FROM python:3.13-slim AS build
ARG PIP_INDEX_URL
ARG UV_DEFAULT_INDEX=$PIP_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never PATH=/opt/build/bin:$PATH
WORKDIR /build
COPY requirements-build.lock ./
RUN ["python", "-m", "venv", "/opt/build"]
RUN ["pip", "install", "--quiet", "--require-hashes", "--requirement", "requirements-build.lock"]
# Everything but Lockgate itself comes first: it changes less often.
COPY requirements.lock ./
RUN ["uv", "venv", "--quiet", "--python", "/usr/local/bin/python", "/opt/lockgate"]
RUN ["uv", "pip", "install", "--quiet", "--python", "/opt/lockgate", "--require-hashes", "--requirement", "requirements.lock"]
COPY pyproject.toml README.md LICENSE schema.sql ./
COPY schema schema
COPY lockgate lockgate
COPY runner runner
COPY service service
RUN ["hatchling", "build", "--target", "wheel"]
RUN uv pip install --quiet --python /opt/lockgate --no-deps dist/*.whl && rm /opt/lockgate/.lock

FROM python:3.13-slim
LABEL org.opencontainers.image.title="Lockgate" \
      org.opencontainers.image.description="A task queue on Postgres that never executes more than N tasks at once" \
      org.opencontainers.image.licenses="MIT"
# The folders of /run/lockgate are where compose.yaml mounts what `lockgate passwords` makes, each where it is needed.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lockgate \
 && mkdir -p /handlers /run/lockgate/admin /run/lockgate/owner /run/lockgate/service /run/lockgate/runner \
      /run/lockgate/viewer /run/lockgate/operator /run/lockgate/broker \
 && chown -R lockgate:lockgate /run/lockgate
COPY --from=build /opt/lockgate /opt/lockgate
# Modules in /handlers can be named in LOCKGATE_HANDLERS.
ENV PATH=/opt/lockgate/bin:$PATH PYTHONPATH=/handlers PYTHONUNBUFFERED=1
WORKDIR /handlers
USER 10001:10001
STOPSIGNAL SIGTERM
EXPOSE 8000
ENTRYPOINT ["lockgate"]
CMD ["--help"]
