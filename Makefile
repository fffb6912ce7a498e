# Every task of this repository; CI runs the same tasks. `make` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= python3
BIN := .venv/bin
IMAGE ?= flask-ml-model
# The first engine that answers: a docker client can be installed while its engine does not run.
CONTAINER ?= $(shell for engine in docker podman; do $$engine info >/dev/null 2>&1 && echo $$engine && break; done)

# `make lock UPGRADE=` keeps the versions that are locked already.
UPGRADE ?= --upgrade
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --no-strip-extras --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" $(UPGRADE)
# Whatever loads the model needs what its estimator needs.
LOCK_SERVING = $(LOCK) pyproject.toml --group model
# What only pickles need: scikit-learn, and what it brings.
NOT_AT_EDGE := cloudpickle joblib narwhals scikit-learn scipy threadpoolctl

# The definitions that custom resources are checked against: repository, version, directory.
CRDS ?= .venv/crds
CRD_SOURCES := argoproj/argo-cd:v3.5.1:manifests/crds argoproj/argo-rollouts:v1.9.1:manifests/crds \
	prometheus-operator/prometheus-operator:v0.93.0:example/prometheus-operator-crd \
	kubernetes-sigs/gateway-api:v1.6.1:config/crd/standard kedacore/keda:v2.20.2:config/crd/bases

# The names that `make adopt` replaces, and the files that contain them.
REPO_NOW = $(shell sed -n 's/.*repoURL: //p' k8s/argocd/staging.yaml)
IMAGE_NOW = $(shell sed -n '/.*newName: /{s///p;q;}' k8s/overlays/staging/kustomization.yaml)
NAMING = .github/workflows/release.yml .github/workflows/scan.yml $(wildcard k8s/argocd/*.yaml k8s/overlays/*/kustomization.yaml)

# The stages of the Dockerfile that are released, and the name of each in the manifests.
TARGETS := service batch registry
TARGET ?= service
ENTRY = flask-ml-model$(patsubst %,-%,$(filter-out service,$(TARGET)))

OVERLAY_FILE = k8s/overlays/$(OVERLAY)/kustomization.yaml
# What an overlay names before its first release.
PLACEHOLDER := sha256:0000000000000000000000000000000000000000000000000000000000000000

# $(call need,PROGRAMS,HOW TO INSTALL THEM): stop unless every program is installed.
need = @for program in $(1); do \
	command -v $$program >/dev/null || { echo "needs $$program: $(2)"; exit 2; }; done

.PHONY: help
help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: .venv/serving ## Serve on http://localhost:5000 (other port: PORT=8000 make run)
	exec $(BIN)/gunicorn app:app

.PHONY: demo
demo: .venv/serving ## Watch drift, an A/B test, a canary and a reload on the page (3 minutes)
	@$(BIN)/python -m demo

.PHONY: test
test: .venv/dev ## Run the tests and show their coverage
	$(BIN)/pytest --cov --numprocesses auto

.PHONY: test-swap
test-swap: need-git .venv/dev ## Swap in another model and run the tests (EXAMPLE=penguins; needs git)
	.ci/swap_model.sh $(or $(EXAMPLE),penguins)

.PHONY: test-adoption
test-adoption: need-git .venv/dev ## Adopt a clone, edit it as docs/deployment.md says, and test the manifests (needs git)
	.ci/adopt.sh

.PHONY: test-cluster
test-cluster: need-kind ## Create the local cluster of docs/deployment.md: sync, promote, roll back (needs kind, docker, kubectl and git)
	.ci/local_cluster.sh

.PHONY: test-crds
test-crds: need-git .venv/dev $(CRDS) ## Validate the custom resources (needs git and the internet)
	CRDS=$(CRDS) $(BIN)/pytest tests/deployment/test_crds.py

.PHONY: test-monitoring
test-monitoring: need-prometheus .venv/dev ## Test the alerts and the canary rules (needs prometheus)
	$(BIN)/pytest tests/deployment/test_alerts.py tests/deployment/test_recorded_series.py tests/deployment/test_prometheus_server.py tests/deployment/test_canary.py

.PHONY: test-proxies
test-proxies: need-proxies .venv/dev ## Test behind proxies (needs nginx and haproxy)
	$(BIN)/pytest tests/proxies

.PHONY: test-clients
test-clients: .venv/dev .venv-clients/clients ## Test with the platforms' own clients and with schemathesis
	.venv-clients/bin/pytest --confcutdir=tests/clients --override-ini filterwarnings=default tests/clients

.PHONY: test-browser
test-browser: need-chromium .venv/dev .venv-browser/browser ## Test the pages in a browser (needs chromium)
	.venv-browser/bin/pytest --confcutdir=tests/browser tests/browser

.PHONY: install-registry
install-registry: .venv-registry/dev ## Install MLflow, boto3 and DVC into .venv-registry

.PHONY: test-registry
test-registry: need-git .venv-registry/dev ## Test the registry with MLflow, SageMaker (moto) and DVC (needs git)
	.venv-registry/bin/pytest tests/registry

.PHONY: test-batch
test-batch: need-redis .venv-batch/dev ## Test batch.py with files, streams, brokers and Dask (needs redis-server)
	.venv-batch/bin/pytest tests/batch tests/streams

.PHONY: lint
lint: .venv/dev ## Check style, types, imports, dependencies, spelling, workflows and the Dockerfile
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python .ci/check_style.py *.py .ci serving bench demo examples tests
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/deptry --no-ansi .
	$(BIN)/codespell
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/hadolint Dockerfile

.PHONY: install
install: .venv/dev ## Install what run, test, lint and train need into .venv

.PHONY: install-batch
install-batch: .venv-batch/batch ## Install what batch.py needs into .venv-batch

.PHONY: bench-batch
bench-batch: .venv-bench/bench ## Measure batch.py against pandas and on a cluster (30 minutes, 8 GB of disk)
	for rows in 5000000 50000000; do for format in csv parquet; do \
		.venv-bench/bin/python bench/batch.py --rows $$rows --format $$format --rounds $$((rows < 10000000 ? 5 : 1)) || exit 1; \
	done; done
	for shape in wide strings; do for format in csv parquet; do \
		.venv-bench/bin/python bench/batch.py --shape $$shape --rows 500000 --format $$format || exit 1; \
	done; done
	.venv-bench/bin/python bench/batch.py --rows 50000000 --format parquet --cluster --rounds 2
	.venv-bench/bin/python bench/batch.py --http

.PHONY: train
train: .venv/serving ## Train; write model.pkl and model.json
	$(BIN)/python train.py

.PHONY: openapi
openapi: .venv/serving ## Write docs/openapi.json from the routes and the model card
	@API_KEYS= METRICS_PORT= $(BIN)/python -c 'from app import app; response = app.test_client().get("/openapi.json"); \
		assert response.status_code == 200, response.text; print(response.text, end="")' \
		> docs/openapi.json.part || { rm docs/openapi.json.part; exit 1; }
	mv docs/openapi.json.part docs/openapi.json

.PHONY: lock
lock: .venv/dev ## Lock the newest versions of what pyproject.toml declares
	$(LOCK_SERVING) --output-file requirements.txt
	$(LOCK) pyproject.toml --output-file requirements/edge.txt --constraints requirements.txt \
		$(addprefix --no-emit-package ,$(NOT_AT_EDGE))
	$(LOCK_SERVING) --output-file requirements/dev.txt --group dev --constraints requirements.txt
	$(LOCK) --output-file requirements/clients.txt --group clients
	$(LOCK) --output-file requirements/browser.txt --group browser
	$(LOCK_SERVING) --output-file requirements/registry.txt --group registry --constraints requirements.txt
	$(LOCK_SERVING) --output-file requirements/registry-dev.txt --group registry --group registry-dev \
		--constraints requirements/registry.txt
	$(LOCK_SERVING) --output-file requirements/batch.txt --group batch --constraints requirements/dev.txt
	$(LOCK_SERVING) --output-file requirements/batch-dev.txt --group batch --group dev --group batch-dev \
		--constraints requirements/batch.txt --constraints requirements/dev.txt
	$(LOCK_SERVING) --output-file requirements/bench.txt --group batch --group bench --constraints requirements/batch.txt

.PHONY: image
image: need-container ## Build the image (needs docker or podman)
	$(CONTAINER) build $(BUILD_ARGS) --tag $(IMAGE) .

.PHONY: image-test
image-test: image .venv/dev ## Build the image and test it hardened (needs docker or podman)
	CONTAINER=$(CONTAINER) IMAGE=$(IMAGE) BUILD_ARGS='$(BUILD_ARGS)' $(BIN)/pytest tests/deployment/test_image.py

.PHONY: bench
bench: need-wrk .venv/serving ## Measure this service against others (needs wrk, two cores, 40 minutes)
	$(BIN)/python bench/serve.py --rounds 3
	$(BIN)/python bench/models.py

.PHONY: adopt
adopt: ## Replace the repository and the image name (REPO=https://github.com/you/it IMAGE=ghcr.io/you/it)
	@echo '$(REPO)' | grep -Eqx '(https|git)://[^/ ]+/[^ ]+' || { echo 'REPO: expected https://...'; exit 2; }
	@echo '$(IMAGE)' | grep -Eqx '[a-z0-9.:-]+(/[a-z0-9._-]+)+' || { echo 'IMAGE: expected registry/name, in lower case'; exit 2; }
	@sed -i.old -e 's|$(REPO_NOW)|$(REPO:.git=)|' -e 's|$(IMAGE_NOW)|$(IMAGE)|' $(NAMING) && rm $(NAMING:=.old)

.PHONY: pin
pin: need-overlay need-target ## Write a digest into an overlay (OVERLAY=staging DIGEST=sha256:..., other image: TARGET=batch)
	@echo '$(DIGEST)' | grep -Eqx 'sha256:[0-9a-f]{64}' || { echo 'DIGEST: expected sha256: and 64 hex digits'; exit 2; }
	@grep -q -e '- name: $(ENTRY)$$' $(OVERLAY_FILE) || { echo '$(OVERLAY_FILE): no image $(ENTRY)'; exit 2; }
	@sed -i.old '/- name: $(ENTRY)$$/,/digest:/ s/\(digest: \).*/\1$(DIGEST)/' $(OVERLAY_FILE) && rm $(OVERLAY_FILE).old

.PHONY: promote
promote: ## Copy the digests of staging to production
	@if [ "$$($(MAKE) --no-print-directory digest OVERLAY=staging)" = $(PLACEHOLDER) ]; then \
		echo 'staging has no release: its digest is the placeholder of zeros'; exit 2; \
	fi
	@for target in $(TARGETS); do \
		digest=$$($(MAKE) --no-print-directory digest OVERLAY=staging TARGET=$$target) && \
		$(MAKE) --no-print-directory pin OVERLAY=production TARGET=$$target DIGEST="$$digest" && \
		echo "$$target: production now has the digest of staging, $$digest" || exit 1; \
	done

.PHONY: digest
digest: need-overlay need-target ## Print the digest of an overlay (OVERLAY=staging, other image: TARGET=batch)
	@sed -n '/- name: $(ENTRY)$$/,/digest:/ s/.*digest: //p' $(OVERLAY_FILE)

.PHONY: verify
verify: need-cosign ## Verify the signature of a digest (DIGEST=sha256:..., needs cosign)
	cosign verify --certificate-identity '$(REPO_NOW)/.github/workflows/release.yml@refs/heads/main' \
		--certificate-oidc-issuer https://token.actions.githubusercontent.com '$(IMAGE_NOW)@$(DIGEST)'

.PHONY: clean
clean: ## Remove the environments and the caches (keeps mlflow.db and mlruns)
	rm -rf .venv* .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache dvc_plots
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What a task needs beside Python is checked before anything is installed.
.PHONY: need-chromium need-container need-cosign need-git need-kind need-overlay need-prometheus need-proxies need-redis need-target need-wrk
need-chromium:
	$(call need,chromium,apt-get install chromium)

need-container:
	@test -n '$(CONTAINER)' || { echo 'needs docker or podman with an engine that answers `info`'; exit 2; }

need-cosign:
	$(call need,cosign,https://docs.sigstore.dev/cosign/system_config/installation/)

need-git:
	$(call need,git,apt-get install git)

need-kind:
	$(call need,kind docker kubectl git,https://kind.sigs.k8s.io/docs/user/quick-start/#installation)

need-overlay:
	@test -f '$(OVERLAY_FILE)' || { echo 'OVERLAY: expected $(sort $(notdir $(wildcard k8s/overlays/*)))'; exit 2; }

need-prometheus:
	$(call need,prometheus promtool,apt-get install prometheus)

need-proxies:
	$(call need,nginx haproxy,apt-get install nginx-light haproxy)

need-redis:
	$(call need,redis-server redis-cli,apt-get install redis-server)

need-target:
	@case ' $(TARGETS) ' in *' $(TARGET) '*) ;; *) echo 'TARGET: expected one of $(TARGETS)'; exit 2;; esac

need-wrk:
	$(call need,wrk,apt-get install wrk)

%/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say which: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv $*

# Each environment has a stamp: it is installed once, and again when its lock changes.
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

.venv-browser/browser: requirements/browser.txt | .venv/bin/python
	$(BIN)/python -m venv .venv-browser
	.venv-browser/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv-registry/dev: requirements/registry-dev.txt | .venv/bin/python
	$(BIN)/python -m venv .venv-registry
	.venv-registry/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	.venv-registry/bin/python -c 'import vl_convert; print(vl_convert.javascript_bundle())' > .venv-registry/vega.js # for .dvc/plots.html
	@touch $@

.venv-batch/batch: requirements/batch.txt | .venv-batch/bin/python
	.venv-batch/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv-batch/dev: requirements/batch-dev.txt .venv-batch/batch
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
