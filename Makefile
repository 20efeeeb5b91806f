# Everything a newcomer needs: `make demo` and `make test`. Both can be repeated, and offline once installed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help demo test check deploy kill browser compile device oracles numbers bench
help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,ray,evolution,series,rl]'
	@touch $(STAMP)

demo: $(STAMP) ## install, run the quickstart, say where its report is
	$(BIN)/fedjourney run configs/quickstart.toml

test: $(STAMP) ## the fast tests, on every processor
	$(BIN)/python -m pytest -q -n auto

check: $(STAMP) ## format, lint, types, fast tests: the same line as in CI
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -n auto

deploy: $(STAMP) ## real SuperLink, SuperNodes and Flower's simulation, on loopback
	$(BIN)/python -m pytest -q -m deploy

kill: $(STAMP) ## processes killed, interrupted and starved for real
	$(BIN)/python -m pytest -q -m kill

browser: $(STAMP) ## the report page in headless Chromium
	$(BIN)/python -m pytest -q -m browser

compile: $(STAMP) ## local steps through torch.compile
	$(BIN)/python -m pytest -q -m compile

device: $(STAMP) ## clients on a second device, beside the CPU
	$(BIN)/python -m pytest -q -m device

numbers: $(STAMP) ## check every config's number (long; not in CI)
	$(BIN)/python -m pytest -q -m numbers

ORACLES := $(VENV)/.oracles-installed
$(ORACLES): $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,ray,evolution,oracles]'
	@touch $(ORACLES)

oracles: $(ORACLES) ## the quantum simulator against Cirq and PennyLane (installs them)
	$(BIN)/python -m pytest -q -m oracles

BENCHED := $(VENV)/.bench-installed
$(BENCHED): $(STAMP)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,ray,bench]'
	@touch $(BENCHED)

bench: $(BENCHED) ## side by side with other simulators, on an idle machine (ARGS="--models lenet --rounds 5")
	$(BIN)/python benchmarks/bench.py $(ARGS)
	$(BIN)/python benchmarks/outside.py | tee benchmarks/results/outside.jsonl
