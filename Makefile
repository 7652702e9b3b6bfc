# Everything a fresh machine needs is Python 3.11 or later and a package registry.
#   make demo                    the study, in minutes: train, compare, draw, conclude
#   make demo SIZE=full          the same at full size
#   make test                    the tests
#   make test PYTHON=python3.12  ... with another Python, the environment is made anew for it
PYTHON ?= python3
SIZE ?= demo
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(notdir $(PYTHON))

.PHONY: demo test test-slow lint readme bench clean

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is older than Python 3.11; give another: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,oracles]'
	touch $@

demo: $(READY)
	$(BIN)/lab study run credit-assignment --size $(SIZE) --store results/$(SIZE)

# A worker per core, each with one thread: left alone, the threads of NumPy and JAX wait for one another.
test: $(READY)
	OPENBLAS_NUM_THREADS=1 XLA_FLAGS=--xla_cpu_multi_thread_eigen=false $(BIN)/python -m pytest -m 'not slow' -n auto

test-slow: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The README's commands, shortened: they have to run as they stand there.
readme: $(READY)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m tests.readme

bench: $(READY)
	$(BIN)/python -m tests.bench

clean:
	rm -rf .venv build *.egg-info
