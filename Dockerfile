# The tag tells people the version; the digest cannot be moved to another image.
FROM docker.io/library/python:3.14-slim-trixie@sha256:51dafde81dbdb6ebde285137a295cf18a47ca95234fe388a343719cb97305b3d AS python
# Debian packages that the libraries of the model need, such as libgomp1 for LightGBM. Debian keeps
# one version of each.
ARG SYSTEM_PACKAGES=""
# hadolint ignore=DL3008
RUN test -z "$SYSTEM_PACKAGES" || { apt-get update \
    && apt-get install --yes --no-install-recommends $SYSTEM_PACKAGES \
    && rm -r /var/lib/apt/lists/*; }

FROM python AS build
COPY requirements.txt /tmp/
# The image has no pip, nothing is built from source, and the libraries' own tests are removed. Bytecode
# has no times in it, so that two builds have the same files. SageMaker starts the image with the
# argument `serve`: a link to gunicorn, which gunicorn.conf.py recognises.
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --no-compile --only-binary :all: --require-hashes \
        --requirement /tmp/requirements.txt \
    && find /venv -type d -name tests -prune -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /venv \
    && ln -s gunicorn /venv/bin/serve
WORKDIR /app
COPY app.py gunicorn.conf.py model.pkl model.json ./
COPY serving serving
# Root owns the files and everyone can read them, whatever the umask of the checkout. They are
# compiled here, because the container's root file system can be read-only.
RUN python -m compileall -q --invalidation-mode unchecked-hash . && chmod -R u=rwX,go=rX .

# With --target registry: the init container of k8s/components/registry.
FROM build AS build-registry
COPY requirements/registry.txt /tmp/requirements-registry.txt
RUN pip --python /venv/bin/python install --no-cache-dir --no-compile --only-binary :all: --require-hashes \
        --requirement /tmp/requirements-registry.txt \
    && find /venv -type d -name tests -prune -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /venv

FROM python AS registry
COPY --from=build-registry /venv /venv
COPY --from=build-registry /app /app
ENV PATH=/venv/bin:$PATH
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python", "-m", "serving.registry"]

# With --target batch: the nightly job, and the workers of a Dask cluster.
FROM build AS build-batch
COPY requirements/batch.txt /tmp/requirements-batch.txt
RUN pip --python /venv/bin/python install --no-cache-dir --no-compile --only-binary :all: --require-hashes \
        --requirement /tmp/requirements-batch.txt \
    && find /venv -type d -name tests -prune -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /venv
COPY batch.py ./
RUN python -m compileall -q --invalidation-mode unchecked-hash . && chmod -R u=rwX,go=rX .

FROM python AS batch
COPY --from=build-batch /venv /venv
COPY --from=build-batch /app /app
# A Dask worker finds the code in whatever folder it starts.
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python", "batch.py"]

# What every image of the service starts with.
FROM python AS runtime
ENV PATH=/venv/bin:$PATH
# A number, so that Kubernetes can verify that it is not root.
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '5000') + '/healthz', timeout=2)"]
CMD ["gunicorn", "app:app"]

# With --target edge: the service without scikit-learn, for a model that has a prediction plan.
FROM build AS build-edge
COPY requirements/edge.txt /tmp/requirements-edge.txt
# The plan is exported with scikit-learn, which then goes with the environment that has it.
RUN /venv/bin/python -m serving.export_plan model.pkl \
    && rm -r model.pkl /venv \
    && python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --no-compile --only-binary :all: --require-hashes \
        --requirement /tmp/requirements-edge.txt \
    && find /venv -type d -name tests -prune -exec rm -r {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /venv \
    && ln -s gunicorn /venv/bin/serve

FROM runtime AS edge
COPY --from=build-edge /venv /venv
COPY --from=build-edge /app /app
ENV MODEL_PATH=/app/model.plan
WORKDIR /app

# The last stage is the service; `docker build .` builds it.
FROM runtime AS service
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
