# Every target does its own set-up: a virtual environment in .venv with the tested versions.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow quick lint bench docs setup clean

demo: $(READY)      ## four phases on the embedded shapes, with their report: some four minutes on two cores
	$(BIN)/python train.py study=demo

PYTEST = $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: $(READY)      ## style and types, and beside them the quick tests: less than five minutes on two quiet cores
	$(MAKE) --jobs 2 --output-sync lint quick

test-slow: $(READY) ## the other tests: whole studies, launchers, devices, exports, trackers, runs that end early
	$(PYTEST) -m slow $(ARGS)

quick: $(READY)     ## first the rooms that need no torch, without it; then the rest
	$(PYTEST) -m "not slow" --torch=refused $(ARGS) $(COVERAGE)
	$(PYTEST) -m "not slow" --torch=rest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

bench: $(READY)     ## all measurements of benchmarks/, as tables and in outputs/benchmarks/*.json
	for name in startup training scaling parallel study search report reid_evaluator; do \
	    $(BIN)/python benchmarks/$$name.py --json outputs/benchmarks/$$name.json || exit 1; done

docs: $(READY)      ## docs/config.md, from conf/ and the schemas
	$(BIN)/python -m docs.config > docs/.config.md && mv docs/.config.md docs/config.md

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"phasewise needs Python 3.11 or newer, and {sys.executable} is {v.major}.{v.minor}: call make with PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { rm -rf .venv; echo "no virtual environment could be made (on Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	# Editable: an installed copy would be found in place of this checkout wherever sys.path does not
	# begin with it, and would be older than the checkout after the next edit.
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

clean:              ## remove the virtual environment and caches; outputs/ stays
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache
