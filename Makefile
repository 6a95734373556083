# make plan   install into .venv and evaluate the planners on the shipped checkpoints
# make test   install into .venv and run the tests
# make test-lowest  install the lowest versions allowed into .venv-lowest and run some of the tests
# make lint   install into .venv and run ruff and mypy
# make docs   install into .venv and build the documentation into site/
# make setup  install into .venv only
# make clean  remove .venv, builds and caches
#
# PYTHON=python3.12 chooses the interpreter, VENV=path the virtual environment, LOWEST=path that of
# the lowest versions, SITE=path the documentation's folder.

PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
SITE ?= site
EPISODES ?= 1000
# Who plays in "make plan". Without --agents all do, an ODE-RNN among them, which takes longer.
AGENTS ?= none random ppo sac rnn jumpy-rnn jumpy simulator

python := $(VENV)/bin/python
# Newer than pyproject.toml and constraints.txt once everything they ask for is installed.
stamp := $(VENV)/.installed
# The same for what only tests need: "video", "onnx", "pool", "ray" and "torchrl" are large.
test_stamp := $(VENV)/.installed-for-tests
docs_stamp := $(VENV)/.installed-for-docs
lowest_stamp := $(LOWEST)/.installed

.DEFAULT_GOAL := plan
.PHONY: plan test test-lowest lint docs setup clean

plan: setup
	@echo "==> Evaluating the planners on $(EPISODES) held-out tables"
	$(python) scripts/plan_eval.py --episodes $(EPISODES) --agents $(AGENTS)

test: $(test_stamp)
	@echo "==> Running the tests"
	$(python) -m pytest -n 2 tests

# Old libraries warn. pygame comes first: it warns of this setuptools, which would fail tests that take
# warnings for errors themselves.
test-lowest: $(lowest_stamp)
	@echo "==> Running some tests with the lowest versions"
	$(LOWEST)/bin/python -m pytest -n 2 -W default --disable-warnings -p pygame @tests/lowest.txt
	$(LOWEST)/bin/python scripts/plan_eval.py --episodes 20 --agents $(AGENTS) \
		--out $(LOWEST)/results

lint: setup
	@echo "==> Checking style (ruff) and types (mypy)"
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

# Not --quiet, which would hide warnings from --strict too. The variable silences advice on what to
# use in place of MkDocs.
docs: $(docs_stamp)
	@echo "==> Building the documentation into $(SITE), with warnings as errors"
	NO_MKDOCS_2_WARNING=1 $(python) -m mkdocs build --strict --site-dir $(abspath $(SITE))

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
		--no-build-isolation --editable '.[contrib,fast,viz,video,hub,minari,onnx,pool,ray,torchrl,dev]'
	@touch $(test_stamp)

$(docs_stamp): $(stamp)
	@echo "==> Installing what only the documentation needs"
	$(python) -m pip install -qq --disable-pip-version-check -c constraints.txt \
		--no-build-isolation --editable '.[fast,viz,docs,dev]'
	@touch $(docs_stamp)

# Nothing is compiled beforehand: few of the modules are ever imported.
$(lowest_stamp): pyproject.toml constraints-lowest.txt
	@echo "==> Creating the virtual environment $(LOWEST) with the lowest versions"
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install -qq --disable-pip-version-check --no-compile \
		-c constraints-lowest.txt setuptools
	$(LOWEST)/bin/python -m pip install -qq --disable-pip-version-check --no-compile \
		-c constraints-lowest.txt --no-build-isolation --editable \
		'.[contrib,fast,viz,video,hub,onnx,ray,torchrl]' hypothesis pytest pytest-xdist
	@touch $(lowest_stamp)

clean:
	rm -rf $(VENV) $(LOWEST) site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
