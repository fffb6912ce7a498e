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
	--no-emit-index-url --custom-compile-command "make lock" pyproject.toml

.PHONY: help
help: ## List the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: .venv/serving ## Serve on http://localhost:5000 (PORT=8000 make run: on another port)
	exec $(BIN)/gunicorn app:app

.PHONY: test
test: .venv/dev ## Run the tests
	$(BIN)/pytest

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

.PHONY: train
train: .venv/serving ## Train, and write model.pkl and model.json
	$(BIN)/python train.py

.PHONY: lock
lock: .venv/dev ## Lock what pyproject.toml declares, newest versions first
	$(LOCK) --upgrade --output-file requirements.txt
	$(LOCK) --upgrade --output-file requirements-dev.txt --group dev --constraints requirements.txt

.PHONY: image
image: ## Build the image (needs docker or podman)
	$(CONTAINER) build $(BUILD_ARGS) --tag $(IMAGE) .

.PHONY: image-test
image-test: image .venv/dev ## Run the image hardened and put the tests to it (needs docker or podman)
	CONTAINER=$(CONTAINER) IMAGE=$(IMAGE) $(BIN)/pytest tests/test_image.py

.PHONY: pin
pin: ## Put a digest into an overlay (OVERLAY=staging DIGEST=sha256:...)
	@echo '$(DIGEST)' | grep -Eqx 'sha256:[0-9a-f]{64}' || { echo 'DIGEST: expected sha256: and 64 hex digits'; exit 2; }
	sed -i.old 's/^\( *digest: \).*/\1$(DIGEST)/' k8s/overlays/$(OVERLAY)/kustomization.yaml
	@rm k8s/overlays/$(OVERLAY)/kustomization.yaml.old

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; say which: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv .venv

# The stamps: an environment is made once, and again when its lock changes.
.venv/serving: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv/dev: requirements-dev.txt .venv/serving | .venv/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@
