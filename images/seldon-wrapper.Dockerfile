# seldon-core's own microservice, hosting a Fairlead bundle. An environment of its own, exact and whole, because it can
# share none with kfp. Built from the repository's root by `make images`.
ARG BASE=python:3.11-slim

FROM ${BASE} AS installed
RUN ["python", "-m", "venv", "/opt/fairlead"]
COPY images/seldon-wrapper.requirements.txt /build/
RUN ["/opt/fairlead/bin/pip", "install", "--no-cache-dir", "--no-compile", "--disable-pip-version-check", \
     "-r", "/build/seldon-wrapper.requirements.txt"]
RUN ["/opt/fairlead/bin/pip", "check"]

FROM installed AS dependencies
COPY images/slim.py images/seldon-wrapper.unused.txt /build/
RUN ["/opt/fairlead/bin/python", "/build/slim.py", "/build/seldon-wrapper.unused.txt", \
     "seldon_core.microservice", "gunicorn.workers.gthread", "pyarrow.parquet", "onnxruntime", "boto3"]

FROM installed AS code
COPY dist/ /build/dist/
RUN ["/opt/fairlead/bin/pip", "install", "--no-cache-dir", "--disable-pip-version-check", \
     "--no-deps", "--no-index", "--find-links", "/build/dist", "--prefix", "/code", "fairlead"]

FROM ${BASE}
COPY images/account.py /build/account.py
RUN ["python", "/build/account.py"]
COPY --from=dependencies /opt/fairlead /opt/fairlead
# REST alone: gRPC would load the model once more. A second thread answers probes while the first predicts.
ENV HOME=/home/fairlead \
    PATH=/opt/fairlead/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/fairlead/model \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GRPC_WORKERS=0 \
    GUNICORN_THREADS=4 \
    INCLUDE_METRICS_IN_CLIENT_RESPONSE=false
WORKDIR /var/fairlead
USER 10001:10001
EXPOSE 9000 6000
CMD ["seldon-core-microservice", "FairleadModel", "--service-type", "MODEL"]
ARG VERSION=0
LABEL org.opencontainers.image.title="fairlead-seldon-wrapper" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=code /code/ /opt/fairlead/
COPY images/seldon_wrapper/ /opt/fairlead/model/
