# make plan   install into .venv and evaluate the planners on the shipped checkpoints
# make test   install into .venv and run the tests
# make lint   install into .venv and run ruff and mypy
# make setup  install into .venv only
# make clean  remove .venv, builds and caches
#
# PYTHON=python3.12 chooses the interpreter, VENV=path the virtual environment.

PYTHON ?= python3
VENV ?= .venv
EPISODES ?= 1000

python := $(VENV)/bin/python
# Newer than pyproject.toml and constraints.txt once everything they ask for is installed.
stamp := $(VENV)/.installed
# The same for what only tests need: "video", "ray" and "torchrl" are large.
test_stamp := $(VENV)/.installed-for-tests

.DEFAULT_GOAL := plan
.PHONY: plan test lint setup clean

plan: setup
	@echo "==> Evaluating the planners on $(EPISODES) held-out tables"
	$(python) scripts/plan_eval.py --episodes $(EPISODES)

test: $(test_stamp)
	@echo "==> Running the tests"
	$(python) -m pytest -n 2 tests

lint: setup
	@echo "==> Checking style (ruff) and types (mypy)"
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

setup: $(stamp)

# The install is editable: changes to the code need no reinstall.
$(stamp): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "jumpy-mbrl needs Python 3.11 or newer, but '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>&1); try: make PYTHON=python3.12" >&2; exit 1; }
	@echo "==> Creating the virtual environment $(VENV) with $$($(PYTHON) --version)"
	$(PYTHON) -m venv $(VENV)
	@echo "==> Installing jumpy-mbrl and the versions pinned in constraints.txt (some minutes at first)"
	$(python) -m pip install -qq --disable-pip-version-check -c constraints.txt setuptools
	$(python) -m pip install -qq --disable-pip-version-check -c constraints.txt \
		--no-build-isolation --editable '.[fast,viz,dev]'
	@touch $(stamp)

$(test_stamp): $(stamp)
	@echo "==> Installing what only the tests need"
	$(python) -m pip install -qq --disable-pip-version-check -c constraints.txt \
		--no-build-isolation --editable '.[fast,viz,video,ray,torchrl,dev]'
	@touch $(test_stamp)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
