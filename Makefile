# Two commands: `make demo` trains a network from nothing, `make test` proves the tree.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests run in so many processes, each with one thread; `make test WORKERS=0` is one process with all.
WORKERS ?= 2

.PHONY: demo test setup clean

demo: $(READY)
	$(BIN)/pipelines run classify
	@echo "  (both commands are in $(BIN); to have them at hand: source $(BIN)/activate)"

test: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(if $(filter-out 0,$(WORKERS)),OMP_NUM_THREADS=1) $(BIN)/pytest -n $(WORKERS) --dist worksteal

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "spikeline needs Python 3.11 or newer; this is $$($(PYTHON) --version). Try: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	@# Tests compare with SpikingJelly, which asks for torchvision and torchaudio and does not need them there.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps spikingjelly
	@# And with NeuroBench, which asks for snnTorch, tonic and torchaudio, and needs the first to be imported.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps neurobench snntorch
	@touch $(READY)

clean:
	rm -rf $(VENV) build dist *.egg-info
