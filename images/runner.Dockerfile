# The rollout runner: statistics, the store, Helm. Neither Ray nor torch, so that the Job that hosts a rollout starts fast.
# HELM is a Helm 3.14+ (or 4) program for Linux, put into images/build/ by `make images`.
ARG BASE=python:3.11-slim

FROM ${BASE} AS installed
RUN ["python", "-m", "venv", "/opt/fairlead"]
COPY constraints.txt images/runner.requirements.txt /build/
RUN ["/opt/fairlead/bin/pip", "install", "--no-cache-dir", "--no-compile", "--disable-pip-version-check", \
     "-c", "/build/constraints.txt", "-r", "/build/runner.requirements.txt"]

FROM installed AS dependencies
COPY images/slim.py images/runner.unused.txt /build/
RUN ["/opt/fairlead/bin/python", "/build/slim.py", "/build/runner.unused.txt", \
     "scipy.stats", "pyarrow.parquet", "onnxruntime", "boto3", "kubernetes"]

FROM installed AS code
COPY dist/ /build/dist/
RUN ["/opt/fairlead/bin/pip", "install", "--no-cache-dir", "--disable-pip-version-check", \
     "--no-deps", "--no-index", "--find-links", "/build/dist", "--prefix", "/code", "fairlead"]

FROM ${BASE}
COPY images/account.py /build/account.py
RUN ["python", "/build/account.py"]
COPY --from=dependencies /opt/fairlead /opt/fairlead
COPY images/build/helm /usr/local/bin/helm
ENV HOME=/home/fairlead \
    PATH=/opt/fairlead/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /var/fairlead
USER 10001:10001
CMD ["fairlead", "--help"]
ARG VERSION=0
LABEL org.opencontainers.image.title="fairlead-runner" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=code /code/ /opt/fairlead/
