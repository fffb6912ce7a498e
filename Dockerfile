# The base by tag, for people, and by digest, for machines: a tag is moved, a digest is not.
FROM docker.io/library/python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285 AS python

FROM python AS build
COPY requirements.txt /tmp/
# No pip in what is shipped, nothing compiled here, and none of the libraries' own tests. SageMaker runs the image with
# one argument, `serve`: gunicorn by that name, which gunicorn.conf.py knows.
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --only-binary :all: --require-hashes \
        --requirement /tmp/requirements.txt \
    && find /venv -type d -name tests -prune -exec rm -r {} + \
    && ln -s gunicorn /venv/bin/serve
WORKDIR /app
COPY app.py gunicorn.conf.py model.pkl model.json ./
COPY serving serving
# Root owns it and everyone can read it, whatever the umask of the checkout; bytecode, because the root file system of
# the container may be read-only.
RUN python -m compileall -q . && chmod -R u=rwX,go=rX .

# Not shipped, but built on demand (--target registry): what k8s/components/registry pulls versions with.
FROM build AS with-registry
COPY requirements/registry.txt /tmp/requirements-registry.txt
RUN pip --python /venv/bin/python install --no-cache-dir --only-binary :all: --require-hashes \
        --requirement /tmp/requirements-registry.txt

FROM python AS registry
COPY --from=with-registry /venv /venv
COPY --from=with-registry /app /app
ENV PATH=/venv/bin:$PATH
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python", "-m", "serving.registry"]

# `--target batch`: the nightly job, and the workers of its cluster. The service needs none of what it adds.
FROM build AS build-batch
COPY requirements/batch.txt /tmp/requirements-batch.txt
RUN pip --python /venv/bin/python install --no-cache-dir --only-binary :all: --require-hashes \
        --requirement /tmp/requirements-batch.txt \
    && find /venv -type d -name tests -prune -exec rm -r {} +
COPY batch.py ./
RUN python -m compileall -q . && chmod -R u=rwX,go=rX .

FROM python AS batch
COPY --from=build-batch /venv /venv
COPY --from=build-batch /app /app
# Wherever a worker of Dask is started, it finds the code.
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app
WORKDIR /app
USER 10001:10001
ENTRYPOINT ["python", "batch.py"]

# The last stage is what `docker build .` makes: the service.
FROM python
COPY --from=build /venv /venv
COPY --from=build /app /app
ENV PATH=/venv/bin:$PATH
WORKDIR /app
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '5000') + '/healthz', timeout=2)"]
CMD ["gunicorn", "app:app"]
