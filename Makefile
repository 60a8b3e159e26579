# The front door. `make` prints what can be done.
SHELL := /bin/sh
.DEFAULT_GOAL := help
HOST ?= 127.0.0.1
PORT ?= 8000
BASE_URL ?= http://$(HOST):$(PORT)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one with PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): restapi/requirements.lock restapi/pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --require-hashes -r restapi/requirements.lock
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation -e restapi
	@touch $@

$(DEV): restapi/requirements-dev.lock $(RUNTIME)
	$(BIN)/pip install --quiet --quiet --disable-pip-version-check --require-hashes -r restapi/requirements-dev.lock
	@touch $@

install: $(RUNTIME) ## create the environment in .venv

run: $(RUNTIME) ## serve on http://127.0.0.1:8000 (HOST, PORT), with files under ./data
	@IMGDETECT_BIND=$(HOST):$(PORT) exec $(BIN)/gunicorn -c restapi/gunicorn.conf.py imgdetect.wsgi:app

tools: $(DEV)
	@scripts/install_tools.sh

test: tools ## run the test suite
	$(BIN)/python -W error -m unittest discover -s restapi/tests -t restapi

lint: tools ## style, types, imports, shell, YAML, Dockerfiles, nginx
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck *.sh scripts/*.sh nginx/*.sh .ci/run
	$(BIN)/yamllint -s .
	$(BIN)/hadolint restapi/Dockerfile nginx/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

check: lint ## everything that must hold before a change lands: lint, tests, coverage floor
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

up: ## build and start nginx (TLS) and the service with Docker
	docker compose up --build --detach --wait
	@echo "https://localhost/ (self-signed certificate) and http://127.0.0.1:8000/"

bench: $(DEV) ## measure what the service costs beyond the detector (a table)
	$(BIN)/python -m benchmarks.service

down: ## stop them; the data stays
	docker compose down

smoke: ## upload every picture of test_images/input to BASE_URL and check the answers
	./test_curl_upload.sh $(BASE_URL)
	./test_curl_download.sh $(BASE_URL)

lock: ## resolve the dependencies again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra build restapi/pyproject.toml -o restapi/requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --extra build --extra dev -c restapi/requirements.lock restapi/pyproject.toml -o restapi/requirements-dev.lock

clean: ## remove everything that was made, except data
	rm -rf $(VENV) .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install run tools test lint check bench up down smoke lock clean
