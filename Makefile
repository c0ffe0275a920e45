# make compare: the main job.  make test: the tests that a change is likely to break.  make test-all: those, then the rest.
# All install into .venv first; a second call installs nothing.
# make setup: installs, and compiles what the main job compiles, so that its first run is as quick as the later ones.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# TORCH_INDEX=URL: one more package index, for PyTorch's build for the CPU, which is smaller than the one for CUDA.
TORCH_INDEX ?=
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
FRAMEWORKS := pytorch tensorflow jax
ARGS ?=

.PHONY: compare test test-all lint calibrate install setup clean
.DELETE_ON_ERROR:

compare: $(VENV)/.installed
	$(BIN)/faceoff compare $(ARGS)

# A test waits for its workers for much of its time: on two cores, three processes have half as much idle time as two.
PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --benchmark-disable

test: $(VENV)/.installed
	$(PYTEST) -m "not thorough" $(ARGS)

test-all: test
	$(PYTEST) -m thorough $(ARGS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet --benchmark-disable tests/meta/test_imports.py

# How far verdicts on speed can be trusted here: an hour, on a machine with nothing else to do.
calibrate: $(VENV)/.installed
	$(BIN)/python -m tests.calibration.verdicts $(ARGS)

install: $(VENV)/.installed

setup: $(VENV)/.installed
	@echo "compiling the models of faceoff compare; this takes some minutes, once"
	$(BIN)/faceoff compare --compile-only $(ARGS)

# All at once is fastest. If that fails, one framework after the other, so that one that cannot be had stops no other.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python 3.11, 3.12 or 3.13 found; install one, or run make PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) has no ensurepip; install its venv (Debian: apt-get install python3-venv)"; exit 2; }
	@echo "setting up $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --dry-run --report $(VENV)/planned.json torch >/dev/null 2>&1 || rm -f $(VENV)/planned.json
	@$(PYTHON) .ci/room.py $(VENV) $(VENV)/planned.json
	$(PIP) --editable '.[dev]'
	@$(PIP) --editable '.[all]' || for framework in $(FRAMEWORKS); do \
		$(PIP) --editable ".[$$framework]" || echo "$$framework could not be installed; its cases will say 'missing'"; done
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
