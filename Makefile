# Two commands do all the set-up: `make run` and `make test`.
VENV ?= .venv
PYTHON ?= python3
# The build of torch that setup installs where none is there; set TORCH=torch for the default (CUDA) build of your platform.
TORCH ?= torch==2.13.0
# Test processes that run side by side.
JOBS ?= 2
RECIPE ?=
ARGS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.rlpost-installed

.PHONY: setup run test check claims mutants catalogue bench bench-gpu help

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## a virtual environment with rlpost and everything its tests need

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip # an old pip writes a console script that starts 10 ms later
	$(BIN)/python -c 'import torch' 2>/dev/null || $(BIN)/python -m pip install --quiet '$(TORCH)'
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

run: setup ## train the embedded model with GRPO; RECIPE=video_r1 for another recipe, ARGS='seed=1' for overrides
	$(BIN)/rlpost grpo $(if $(RECIPE),recipe=$(RECIPE)) $(ARGS)

test: setup ## all tests
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

check: setup ## formatting, lint, types, file and function lengths
	$(BIN)/ruff format --check rlpost tests scripts
	$(BIN)/ruff check rlpost tests scripts
	$(BIN)/pyright --pythonpath $(BIN)/python

claims: setup ## only the papers' claims
	$(BIN)/python -m pytest tests/claims $(ARGS)

mutants: setup ## flip one operator at a time; every mutant must turn a test red
	$(BIN)/python scripts/mutate.py $(ARGS)

bench: setup ## measure every goal beside TRL's own, one thread; ARGS='C1 C5' for some
	$(BIN)/python scripts/bench.py $(ARGS)

bench-gpu: setup ## the goals for a GPU, on the one at hand
	$(BIN)/python scripts/bench.py --gpu $(ARGS)

catalogue: setup ## list every recipe
	$(BIN)/rlpost recipes
