# A small image that runs one `stepflow serve`: not root, on a read-only root file system.
#
#   docker build -t stepflow .
#   docker run --read-only --tmpfs /tmp -v flow:/data -v "$PWD/shop.py:/app/main.py:ro" \
#     -p 8000:8000 stepflow
#
# One container per volume: a second one is refused with exit code 75.

FROM python:3.12-slim AS build
ENV UV_PROJECT_ENVIRONMENT=/opt/stepflow \
    UV_LINK_MODE=copy
WORKDIR /src
RUN python -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml uv.lock README.md LICENSE pytest_stepflow.py ./
COPY stepflow ./stepflow
# As locked, with a wheel made from the sources, and no compiler or package tool in what is kept.
RUN python -m venv --without-pip /opt/stepflow \
    && /opt/uv/bin/uv sync --frozen --no-default-groups --no-editable --compile-bytecode \
        --extra fast --extra cli --extra jwks

FROM python:3.12-slim
LABEL org.opencontainers.image.title="stepflow" \
      org.opencontainers.image.description="Durable workflows inside one Python process" \
      org.opencontainers.image.licenses="MIT"
ENV PATH=/opt/stepflow/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STEPFLOW_LOG_FORMAT=json
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin stepflow \
    && install -d -o stepflow -g stepflow -m 0700 /data
COPY --from=build /opt/stepflow /opt/stepflow
COPY examples/welcome.py /app/main.py
USER 10001:10001
WORKDIR /app
VOLUME ["/data"]
EXPOSE 8000
STOPSIGNAL SIGTERM
# /health answers while the process serves, during recovery too; /ready is for a load balancer.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
ENTRYPOINT ["stepflow"]
CMD ["serve", "/app/main.py", "--host", "0.0.0.0", "--port", "8000", "--data", "/data"]
