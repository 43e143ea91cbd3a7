# Serving: Ray Serve and onnxruntime, without torch. Built from the repository's root by `make images`.
ARG BASE=python:3.11-slim

FROM ${BASE} AS installed
RUN ["python", "-m", "venv", "/opt/fairlead"]
COPY constraints.txt images/serving.requirements.txt /build/
RUN ["/opt/fairlead/bin/pip", "install", "--no-cache-dir", "--no-compile", "--disable-pip-version-check", \
     "-c", "/build/constraints.txt", "-r", "/build/serving.requirements.txt"]

FROM installed AS dependencies
COPY images/slim.py images/serving.unused.txt /build/
RUN ["/opt/fairlead/bin/python", "/build/slim.py", "/build/serving.unused.txt", \
     "ray.serve", "ray.dashboard.dashboard", "ray.dashboard.agent", "pyarrow.parquet", "onnxruntime", "boto3", "uvloop"]

FROM installed AS code
COPY dist/ /build/dist/
RUN ["/opt/fairlead/bin/pip", "install", "--no-cache-dir", "--disable-pip-version-check", \
     "--no-deps", "--no-index", "--find-links", "/build/dist", "--prefix", "/code", "fairlead"]

FROM ${BASE}
COPY images/account.py /build/account.py
RUN ["python", "/build/account.py"]
COPY --from=dependencies /opt/fairlead /opt/fairlead
# HAProxy in front of the replicas, user code on the replica's event loop: see fairlead.serve.ray_settings.
ENV HOME=/home/fairlead \
    PATH=/opt/fairlead/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAY_SERVE_ENABLE_HA_PROXY=1 \
    RAY_SERVE_THROUGHPUT_OPTIMIZED=1 \
    RAY_worker_niceness=0 \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /var/fairlead
USER 10001:10001
EXPOSE 8000
CMD ["fairlead", "--help"]
ARG VERSION=0
LABEL org.opencontainers.image.title="fairlead-serving" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
# The project's own code comes last: a change of it rebuilds nothing else.
COPY --from=code /code/ /opt/fairlead/
