# Any Python from 3.11 on: python3 where that is new enough, else another by its name.
NEW := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c '$(NEW)' 2>/dev/null && echo $$name && break; done)
BIN := .venv/bin

.PHONY: bench test check docs

bench: .venv/installed  ## sample the network that ships, and measure it
	$(BIN)/python benchmarks/run.py --solver dpm2 --nfe 20

test: .venv/installed  ## the whole test suite
	$(BIN)/python -m pytest -n 2

check: .venv/installed  ## lint, format, types, and imports that run one way
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy scoresde benchmarks docs
	$(BIN)/lint-imports

docs: .venv/installed  ## the documents, into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --config-file docs/mkdocs.yml

.venv/installed: requirements.lock requirements-peers.lock pyproject.toml
	@$(or $(PYTHON),false) -c '$(NEW)' 2>/dev/null || { echo "Python 3.11 or newer is needed, found \
	$$($(or $(PYTHON),python3) -V 2>/dev/null || echo none); name one by make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-peers.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@
