# Two commands are enough: `make demo` and `make test`. Each makes its own virtual environment in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
MINUTES ?= 10
# PyPI's torch of that version brings the CUDA libraries; the builds for the CPU alone are in an index of their own.
OLDEST_TORCH ?= torch==2.11.0+cpu --extra-index-url https://download.pytorch.org/whl/cpu

.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "optc needs Python 3.11 or newer; set PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q torch==2.13.0 setuptools==84.2.1
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt --no-build-isolation -e '.[test]'
	@touch $(READY)

setup: $(READY)  ## make the virtual environment from constraints.txt

demo: $(READY)  ## compile a real sentence encoder, search with it, compare ranking and speed
	$(BIN)/python examples/semantic_search.py

test: $(READY)  ## the whole test suite
	$(BIN)/python -m pytest -n $(JOBS) tests

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p optc

check: lint  ## ruff, mypy and the fast tests
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow" tests

bench: $(READY)  ## MiniLM against ONNX Runtime and onnxscript, interleaved
	$(BIN)/python benchmarks/minilm.py

bench-peers: $(READY)  ## six models against ONNX Runtime, OpenVINO, Inductor and others; about an hour
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -r benchmarks/requirements.txt
	$(BIN)/python benchmarks/cpu.py

fuzz: $(READY)  ## random graphs against the oracle: make fuzz MINUTES=60 JOBS=2
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --jobs $(JOBS)

test-oldest:  ## the suite on the oldest supported versions
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --disable-pip-version-check -q $(OLDEST_TORCH) setuptools==81.0.0
	.venv-oldest/bin/python -m pip install --disable-pip-version-check -q --no-build-isolation -e '.[test]' onnx==1.23.1 onnx-ir==1.0.0 onnxruntime==1.30.0
	.venv-oldest/bin/python -m pytest -n $(JOBS) tests

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .venv-oldest .pytest_cache .mypy_cache .ruff_cache build *.egg-info

.PHONY: help setup demo test lint check bench bench-peers fuzz test-oldest clean
