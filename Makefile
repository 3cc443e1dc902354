PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: bench test check

bench: .venv/installed  ## sample the network that ships, and measure it
	$(BIN)/python benchmarks/run.py --solver dpm2 --nfe 20

test: .venv/installed  ## the whole test suite
	$(BIN)/python -m pytest -n 2

check: .venv/installed  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy scoresde benchmarks

.venv/installed: requirements.lock requirements-peers.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-peers.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
