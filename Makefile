# The front door. `make` prints what can be done.
SHELL := /bin/sh
.DEFAULT_GOAL := help
HOST ?= 127.0.0.1
PORT ?= 8000
BASE_URL ?= http://$(HOST):$(PORT)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --quiet --quiet --disable-pip-version-check
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
ENGINE := $(VENV)/.engine
ENGINE_LOG := $(VENV)/engine.log
EXTRAS := $(foreach extra,build postgres s3 redis celery onnx video,--extra $(extra))
# Where `make check` leaves the results of the tests as JUnit XML; empty: nowhere.
REPORTS ?=

help: ## this list
	@awk -F ':.*## ' '/^[a-z_-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name one with PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): restapi/requirements.lock restapi/pyproject.toml | $(BIN)/python
	$(PIP) install --require-hashes -r restapi/requirements.lock
	$(PIP) install --no-deps --no-build-isolation -e restapi
	@touch $@

$(DEV): restapi/requirements-dev.lock $(RUNTIME)
	$(PIP) install --require-hashes -r restapi/requirements-dev.lock
	@touch $@

# Compiles fasthaar. Where there is no compiler (1), one of 400 MB is installed; what fails is tried again next time.
$(ENGINE): fasthaar/pyproject.toml fasthaar/hatch_build.py $(wildcard fasthaar/src/*) | $(RUNTIME)
	@rm -f $@ fasthaar/fasthaar/_fasthaar.so
	@{ { $(BIN)/python fasthaar/hatch_build.py || [ $$? -ne 1 ] || \
	    $(PIP) install --require-hashes -r fasthaar/requirements-build.lock; } && \
	  $(PIP) install --no-deps --no-build-isolation -e fasthaar && touch $@; } >$(ENGINE_LOG) 2>&1 || \
	  echo "fasthaar cannot be built ($(ENGINE_LOG) says why): detection runs on OpenCV, with the same boxes but slower" >&2

install: $(RUNTIME) $(ENGINE) ## create the environment in .venv

run: $(RUNTIME) $(ENGINE) ## serve on http://127.0.0.1:8000 (HOST, PORT), with files under ./data
	@IMGDETECT_BIND=$(HOST):$(PORT) exec $(BIN)/gunicorn -c restapi/gunicorn.conf.py imgdetect.wsgi:app

tools: $(DEV)
	@scripts/install_tools.sh

test: tools $(ENGINE) ## run the test suite
	$(BIN)/python -W error -m unittest discover -s restapi/tests -t restapi
	$(BIN)/python -W error -m unittest discover -s fasthaar/tests

test-faults: tools $(ENGINE) ## kill, stop, fill and lock what the service stands on; nothing acknowledged may be lost
	$(BIN)/python -W error -m unittest discover -s restapi/tests -t restapi -p 'test_faults*.py'

lint: tools ## style, types, imports, shell, YAML, Dockerfiles, nginx
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck *.sh scripts/*.sh nginx/*.sh .ci/run
	$(BIN)/yamllint -s .
	$(BIN)/hadolint restapi/Dockerfile nginx/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

# The suites of `make check`, at once: three mostly wait for servers, one calculates.
WORKERS := restapi/tests/test_faults_celery.py restapi/tests/test_queue_celery.py
FAULTS := $(filter-out $(WORKERS),$(wildcard restapi/tests/test_faults*.py))
SUITE = $(BIN)/coverage run -m pytest $(if $(REPORTS),--junitxml=$(REPORTS)/$(@:_%=%).xml)
_workers:
	$(SUITE) $(WORKERS)
_faults:
	$(SUITE) $(FAULTS)
_service:
	$(SUITE) $(patsubst %,--ignore=%,$(FAULTS) $(WORKERS))
_engine:
	$(SUITE) fasthaar/tests

check: lint $(ENGINE) ## everything that must hold before a change lands: lint, tests, coverage floor
	rm -f .coverage .coverage.*
	$(MAKE) --no-print-directory --jobs 4 --output-sync=target _workers _faults _service _engine
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

up: ## build and start nginx (TLS) and the service with Docker
	docker compose up --build --detach --wait
	@echo "https://localhost/ (self-signed certificate) and http://127.0.0.1:8000/"

parity: $(DEV) $(ENGINE) ## run fasthaar's tests, and compare it with OpenCV over the full ranges; takes long
	FASTHAAR_PARITY=full $(BIN)/python -W error -m unittest discover -s fasthaar/tests

wheel: $(RUNTIME) ## build fasthaar's wheel for any Linux with this processor into dist, and try it
	$(PIP) install --require-hashes -r fasthaar/requirements-build.lock
	rm -f dist/fasthaar-*.whl
	CXX="'$(CURDIR)/$(BIN)/python' -m ziglang c++ -target $$(uname -m)-linux-gnu.2.17" \
	  $(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist ./fasthaar
	$(BIN)/python fasthaar/tests/try_wheel.py dist/fasthaar-*.whl

bench: $(DEV) $(ENGINE) ## measure what the service costs beyond the detector (a table)
	$(BIN)/python -m benchmarks.service

bench-http: $(DEV) $(ENGINE) ## measure the service under load, beside plain peers and bare views (tables; needs wrk)
	$(BIN)/python -m benchmarks.http

soak: $(DEV) $(ENGINE) ## 10,000 mixed requests: does memory, or the number of open files, grow? (a table)
	$(BIN)/python -m benchmarks.soak

bench-engine: $(DEV) $(ENGINE) ## measure fasthaar against OpenCV (a table for every cascade)
	cd fasthaar && ../$(BIN)/python -m benchmarks

stop-sign: $(DEV) $(ENGINE) ## train the detector stop_sign again (docs/stop_sign.md)
	scripts/train_stop_sign.sh

down: ## stop them; the data stays
	docker compose down

smoke: ## upload every picture of test_images/input to BASE_URL and check the answers
	./test_curl_upload.sh $(BASE_URL)
	./test_curl_download.sh $(BASE_URL)

# The dialects of docs/dialects.md about pictures of a dataset. IMAGE_ID and SCALING_FACTOR, or FILENAME, WIDTH and HEIGHT
# choose what is asked; OUTPUT is the folder of what comes.
CALL_DIALECT = @BASE_URL='$(BASE_URL)' PYTHON='$(PYTHON)' scripts/call_dialect.sh

get_image: ## fetch a picture of the dataset by IMAGE_ID from BASE_URL
	$(CALL_DIALECT) $@
process_image: ## scale it by SCALING_FACTOR, so that it can be looked at
	$(CALL_DIALECT) $@
predict: process_image ## look at it; the JSON is kept
	$(CALL_DIALECT) $@
save_detection_image: predict ## the same, and keep the picture with its boxes
	$(CALL_DIALECT) $@
view_detection_json: predict ## the same, and print the JSON
	$(CALL_DIALECT) $@
get-image: ## fetch a picture of the dataset by FILENAME from BASE_URL
	$(CALL_DIALECT) $@
process-image: ## give it the size WIDTH x HEIGHT
	$(CALL_DIALECT) $@
run-image-object-detection: ## look at it; the JSON is kept
	$(CALL_DIALECT) $@
save-detection-image: run-image-object-detection ## the same, and keep the picture with its boxes
	$(CALL_DIALECT) $@
view-detection-json: run-image-object-detection ## the same, and print the JSON
	$(CALL_DIALECT) $@

lock: ## resolve the dependencies again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  $(EXTRAS) restapi/pyproject.toml -o restapi/requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  $(EXTRAS) --extra dev -c restapi/requirements.lock restapi/pyproject.toml -o restapi/requirements-dev.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	  --group fasthaar/pyproject.toml:build -c restapi/requirements.lock -o fasthaar/requirements-build.lock

clean: ## remove everything that was made, except data
	rm -rf $(VENV) build dist fasthaar/fasthaar/_fasthaar.so .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help install run tools test test-faults lint check _workers _faults _service _engine parity wheel bench bench-http soak bench-engine up down smoke lock clean
.PHONY: get_image process_image predict save_detection_image view_detection_json
.PHONY: get-image process-image run-image-object-detection save-detection-image view-detection-json
