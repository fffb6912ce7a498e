# Everything that is done here, each a command that CI runs too. `make` lists it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
BIN := .venv/bin
IMAGE ?= flask-ml-model
# Whichever of the two is there; both take the same command line.
CONTAINER ?= $(shell command -v docker || command -v podman)
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"

# Whose definitions custom resources are checked against: repository, version, directory.
CRDS ?= .venv/crds
CRD_SOURCES := argoproj/argo-cd:v3.5.1:manifests/crds argoproj/argo-rollouts:v1.9.1:manifests/crds \
	prometheus-operator/prometheus-operator:v0.93.0:example/prometheus-operator-crd \
	kubernetes-sigs/gateway-api:v1.6.1:config/crd/standard

# The names that are the owner's, and the files that have them.
REPO_NOW = $(shell sed -n 's/.*repoURL: //p' k8s/argocd/staging.yaml)
IMAGE_NOW = $(shell sed -n 's/.*newName: //p' k8s/overlays/staging/kustomization.yaml)
NAMING = .github/workflows/release.yml $(wildcard k8s/argocd/*.yaml k8s/overlays/*/kustomization.yaml) \
	k8s/components/registry/kustomization.yaml k8s/components/batch/kustomization.yaml
OVERLAY_FILE = k8s/overlays/$(OVERLAY)/kustomization.yaml

.PHONY: help
help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: .venv/serving ## Serve on http://localhost:5000 (PORT=8000 make run: on another port)
	exec $(BIN)/gunicorn app:app

.PHONY: test
test: .venv/dev ## Run the tests
	$(BIN)/pytest

.PHONY: test-crds
test-crds: .venv/dev $(CRDS) ## Check custom resources against their definitions (needs git and the internet)
	CRDS=$(CRDS) $(BIN)/pytest tests/deployment/test_crds.py

.PHONY: test-monitoring
test-monitoring: .venv/dev ## Try the alerts, the canary's rules and a real Prometheus (needs Debian's prometheus)
	@command -v promtool prometheus >/dev/null || { echo "needs both: apt-get install prometheus"; exit 2; }
	$(BIN)/pytest tests/deployment/test_alerts.py tests/deployment/test_canary.py

.PHONY: test-clients
test-clients: .venv/serving .venv-clients/clients ## Ask with the platforms' own clients, and with every request the document allows
	.venv-clients/bin/pytest --confcutdir=tests/clients --override-ini filterwarnings=default tests/clients

.PHONY: install-registry
install-registry: .venv-registry/dev ## Install MLflow, boto3 and DVC, into .venv-registry

.PHONY: test-registry
test-registry: .venv-registry/dev ## Try the registries: a real MLflow server, SageMaker's as moto has it, DVC (installs into .venv-registry)
	.venv-registry/bin/pytest tests/registry

.PHONY: test-batch
test-batch: .venv-batch/dev ## Try batch.py: files, faults, a Dask cluster, a real broker (needs Debian's redis-server)
	@command -v redis-server redis-cli >/dev/null || { echo "needs both: apt-get install redis-server"; exit 2; }
	.venv-batch/bin/pytest tests/batch

.PHONY: lint
lint: .venv/dev ## Check style, types, workflows and the Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/hadolint Dockerfile

.PHONY: install
install: .venv/dev ## Install everything that the tasks above need, into .venv

.PHONY: install-batch
install-batch: .venv-batch/batch ## Install what batch.py needs, into .venv-batch

.PHONY: bench-batch
bench-batch: .venv-bench/bench ## Measure batch.py beside pandas, and on a cluster (half an hour, 8 GB of disk)
	for rows in 5000000 50000000; do for format in csv parquet; do \
		.venv-bench/bin/python bench/batch.py --rows $$rows --format $$format --rounds $$((rows < 10000000 ? 5 : 1)) || exit 1; \
	done; done
	.venv-bench/bin/python bench/batch.py --rows 50000000 --format parquet --cluster --rounds 2
	.venv-bench/bin/python bench/batch.py --http

.PHONY: train
train: .venv/serving ## Train, and write model.pkl and model.json
	$(BIN)/python train.py

.PHONY: openapi
openapi: .venv/serving ## Write docs/openapi.json, which follows the routes and the model card
	API_KEYS= METRICS_PORT= $(BIN)/python -c 'from app import app; print(app.test_client().get("/openapi.json").text)' \
		| $(BIN)/python -m json.tool > docs/$@.json

.PHONY: lock
lock: .venv/dev ## Lock what pyproject.toml declares, newest versions first
	$(LOCK) --upgrade pyproject.toml --output-file requirements.txt
	$(LOCK) --upgrade pyproject.toml --output-file requirements/dev.txt --group dev --constraints requirements.txt
	$(LOCK) --upgrade --output-file requirements/clients.txt --group clients
	$(LOCK) --upgrade pyproject.toml --output-file requirements/registry.txt --group registry --constraints requirements.txt
	$(LOCK) --upgrade pyproject.toml --output-file requirements/registry-dev.txt --group registry --group registry-dev \
		--constraints requirements/registry.txt --constraints requirements/dev.txt
	$(LOCK) --upgrade pyproject.toml --output-file requirements/batch.txt --group batch --constraints requirements/dev.txt
	$(LOCK) --upgrade pyproject.toml --output-file requirements/bench.txt --group batch --group bench --constraints requirements/batch.txt

.PHONY: image
image: ## Build the image (needs docker or podman)
	$(CONTAINER) build $(BUILD_ARGS) --tag $(IMAGE) .

.PHONY: image-test
image-test: image .venv/dev ## Run the image hardened and put the tests to it (needs docker or podman)
	CONTAINER=$(CONTAINER) IMAGE=$(IMAGE) $(BIN)/pytest tests/deployment/test_image.py

.PHONY: bench
bench: .venv/serving ## Measure this service beside others, which it installs (needs wrk; two cores, 10 minutes)
	@command -v wrk >/dev/null || { echo "needs wrk: apt-get install wrk"; exit 2; }
	$(BIN)/python bench/serve.py --rounds 3

.PHONY: adopt
adopt: ## Put your names everywhere (REPO=https://github.com/you/it IMAGE=ghcr.io/you/it)
	@echo '$(REPO)' | grep -Eqx 'https://[^/ ]+/[^ ]+' || { echo 'REPO: expected https://...'; exit 2; }
	@echo '$(IMAGE)' | grep -Eqx '[a-z0-9.:-]+(/[a-z0-9._-]+)+' || { echo 'IMAGE: expected registry/name, in lower case'; exit 2; }
	@sed -i.old -e 's|$(REPO_NOW)|$(REPO:.git=)|' -e 's|$(IMAGE_NOW)|$(IMAGE)|' $(NAMING) && rm $(NAMING:=.old)

.PHONY: pin
pin: ## Put a digest into an overlay (OVERLAY=staging DIGEST=sha256:...)
	@echo '$(DIGEST)' | grep -Eqx 'sha256:[0-9a-f]{64}' || { echo 'DIGEST: expected sha256: and 64 hex digits'; exit 2; }
	@sed -i.old 's/^\( *digest: \).*/\1$(DIGEST)/' $(OVERLAY_FILE) && rm $(OVERLAY_FILE).old

.PHONY: promote
promote: ## Put staging's digest into production
	@$(MAKE) --no-print-directory pin OVERLAY=production DIGEST="$$($(MAKE) --no-print-directory digest OVERLAY=staging)"

.PHONY: digest
digest: ## Print the digest in an overlay (OVERLAY=staging)
	@sed -n 's/^ *digest: //p' $(OVERLAY_FILE)

.PHONY: verify
verify: ## Verify that a digest was signed by the release workflow (DIGEST=sha256:..., needs cosign)
	cosign verify --certificate-identity '$(REPO_NOW)/.github/workflows/release.yml@refs/heads/main' \
		--certificate-oidc-issuer https://token.actions.githubusercontent.com '$(IMAGE_NOW)@$(DIGEST)'

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say which: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $*

# The stamps: an environment is made once, and again when its lock changes.
.venv/serving: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv/dev: requirements/dev.txt .venv/serving | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv-clients/clients: requirements/clients.txt | .venv/bin/python
	$(BIN)/python -m venv .venv-clients
	.venv-clients/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv-registry/dev: requirements/registry-dev.txt | .venv/bin/python
	$(BIN)/python -m venv .venv-registry
	.venv-registry/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv-batch/batch: requirements/batch.txt | .venv-batch/bin/python
	.venv-batch/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv-batch/dev: requirements/dev.txt .venv-batch/batch
	.venv-batch/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv-bench/bench: requirements/bench.txt | .venv-bench/bin/python
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv/crds: | .venv/bin/python
	rm -rf $@.part
	for source in $(CRD_SOURCES); do \
		set -- $$(echo $$source | tr : ' ') && \
		git clone --quiet --depth 1 --filter blob:none --no-checkout --branch $$2 https://github.com/$$1 $@.part/$$1 && \
		git -C $@.part/$$1 sparse-checkout set --no-cone /$$3/ && \
		git -C $@.part/$$1 checkout --quiet || exit 1; \
	done
	mv $@.part $@
