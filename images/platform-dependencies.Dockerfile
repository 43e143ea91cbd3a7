# What the platform image stands on. 5.9 GB, minutes to build: built once per change of constraints.txt or the list.
ARG BASE=python:3.11-slim
FROM ${BASE}
RUN ["python", "-m", "venv", "/opt/fairlead"]
COPY constraints.txt images/platform.requirements.txt /build/
RUN ["/opt/fairlead/bin/pip", "install", "--no-cache-dir", "--disable-pip-version-check", \
     "-c", "/build/constraints.txt", "-r", "/build/platform.requirements.txt"]
COPY images/account.py /build/account.py
RUN ["python", "/build/account.py"]
ENV HOME=/home/fairlead \
    PATH=/opt/fairlead/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    RAY_worker_niceness=0 \
    RAY_USAGE_STATS_ENABLED=0
WORKDIR /var/fairlead
USER 10001:10001
