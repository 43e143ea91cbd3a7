# The platform: pipeline steps, training, rollouts. The project's code and Helm on top of the dependencies' image.
ARG DEPENDENCIES=localhost/fairlead-platform-deps:1
FROM ${DEPENDENCIES}
COPY images/build/helm /usr/local/bin/helm
USER 0
COPY dist/ /build/dist/
RUN ["/opt/fairlead/bin/pip", "install", "--no-cache-dir", "--disable-pip-version-check", \
     "--no-deps", "--no-index", "--find-links", "/build/dist", "fairlead"]
USER 10001:10001
CMD ["fairlead", "--help"]
ARG VERSION=0
LABEL org.opencontainers.image.title="fairlead-platform" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
