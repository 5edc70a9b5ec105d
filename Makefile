# Everything a checkout needs: Python 3.11 or newer, and make. The first command builds a virtual environment in .venv.
#   make demo PYTHON=python3.12     uses another Python for it

PYTHON ?= python3
VENV := .venv
COLAB := .venv-colab
OLDEST := .venv-oldest
LIBTPU := .cache/libtpu
BIN := $(VENV)/bin
# Marks the environments that make built, the only ones that it changes and removes.
MADE := .built-by-make
# Check annotations of types and shapes at run time.
CHECKED := --jaxtyping-packages=poyo_jax,typecheck.checked
# Most of a test is compilation, on one core: two at a time, each file whole, since its tests share what they made, in the
# order of tests/conftest.py: the longest files first.
PARALLEL := --numprocesses=2 --dist=loadfile --no-loadscope-reorder
SOURCES := $(wildcard poyo_jax experiments data_prep notebooks docs tests)
# What a hosted notebook does: the model, loading, decoding, fitting units, and the notebooks themselves.
HOSTED := tests/model/test_parity.py tests/test_pretrained.py tests/decoding/test_decoding.py tests/finetune/test_fit.py \
	tests/test_notebooks.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast lint format notebooks docs tpu-compiler test-colab test-oldest release-check clean \
	check-python

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## simulate recordings, pretrain, adapt to a new session, write demo/report.html
	@$(BIN)/python experiments/demo.py --workdir demo

# LINTED=yes says that the style has been checked already.
test: $(if $(LINTED),$(VENV)/.installed,lint)  ## check the style, then run all tests
	@$(BIN)/pytest -q $(PARALLEL) $(CHECKED)

test-fast: $(VENV)/.installed  ## run the tests that take less than two minutes together: none that trains or starts programs
	@$(BIN)/pytest -q $(PARALLEL) $(CHECKED) -m "not slow"

lint: $(VENV)/.installed  ## check style, types, spelling and shell scripts
	@$(BIN)/ruff check --quiet $(SOURCES)
	@$(BIN)/ruff format --check --quiet $(SOURCES) || { echo "Some files are not formatted: run 'make format'." >&2; exit 1; }
	@$(BIN)/codespell
	@$(BIN)/pyright --level error
	@$(BIN)/shellcheck -x -P SCRIPTDIR experiments/launch/*.sh experiments/launch/slurm.sbatch

format: $(VENV)/.installed  ## put every file in the project's style
	@$(BIN)/ruff check --quiet --fix $(SOURCES)
	@$(BIN)/ruff format --quiet $(SOURCES)

notebooks: $(VENV)/.installed  ## run the notebooks and save them with what comes out
	@$(BIN)/python notebooks/build.py

docs: $(VENV)/.installed  ## build the documentation in docs/_build/html
	@$(BIN)/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

tpu-compiler: $(LIBTPU)/.installed  ## install the compiler of TPUs, for a test that compiles for them (700 MB)

test-colab: $(COLAB)/.installed  ## test model, loading, fitting and notebooks with the versions of a hosted notebook
	@$(COLAB)/bin/pip freeze --disable-pip-version-check > $(COLAB)/versions.txt
	@! grep == constraints-colab.txt | grep -vxFf $(COLAB)/versions.txt || { \
		echo "Installing poyo_jax has moved what is listed above; lower its bounds in pyproject.toml." >&2; exit 1; }
	@$(COLAB)/bin/pytest -q $(PARALLEL) $(CHECKED) $(HOSTED)

test-oldest: $(OLDEST)/.installed  ## test the same with the oldest versions that pyproject.toml allows
	@$(OLDEST)/bin/pytest -q $(PARALLEL) $(HOSTED)  # the oldest jaxtyping checks no package that conftest imports

release-check: $(VENV)/.installed  ## build wheel and source archive into dist, and use them in an empty environment
	@rm -rf dist
	@$(BIN)/python -m experiments.tools.release_check --dist dist

clean:  ## remove the environments that make built, caches and the demo
	@for venv in $(VENV) $(COLAB) $(OLDEST); do \
		if test -e $$venv/$(MADE) -o -e $$venv/.installed; then rm -rf $$venv; fi; done
	rm -rf build dist demo docs/_build .cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml | check-python
	$(call install,$(VENV),-e '.[dev]')

$(COLAB)/.installed: pyproject.toml constraints-colab.txt | check-python
	$(call install,$(COLAB),-r constraints-colab.txt)
	$(call install,$(COLAB),-e '.[test]')

$(OLDEST)/.installed: pyproject.toml | check-python
	@mkdir -p .cache && $(PYTHON) -m experiments.tools.oldest > .cache/oldest.txt
	$(call install,$(OLDEST),-c .cache/oldest.txt -e '.[test]')

# Apart from the environment: in it, every program that uses JAX would look for a TPU and complain.
$(LIBTPU)/.installed: pyproject.toml | $(VENV)/.installed
	@rm -rf $(LIBTPU)
	@wanted=$$($(BIN)/python -c 'from importlib.metadata import requires; print(next(line for line in requires("jax") if line.startswith("libtpu")).split(";")[0])') \
		&& $(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --target $(LIBTPU) "$$wanted" && touch $@ \
		|| echo "the compiler of TPUs could not be installed; the test that needs it is skipped." >&2

# install(environment, pip arguments): create the environment if needed, install into it. An environment of someone else,
# without the mark MADE or .installed, is used as it is: nothing is ever installed into it. Python compiles the few modules
# that are imported by itself; to compile all of them here takes a minute.
define install
	@if test -e $(1) && ! test -e $(1)/$(MADE) -o -e $(1)/.installed; then \
		$(1)/bin/python -c 'import poyo_jax' 2>/dev/null || { \
			echo "$(1) exists, was not built by make, and has no poyo_jax that can be imported. Install it there yourself" \
				"($(1)/bin/python -m pip install -e '.[dev]'), or name a folder that does not exist: make VENV=.venv" >&2; exit 1; }; \
		echo "using $(1) as it is: make did not build it, and installs nothing into it"; \
	else \
		echo "installing into $(1) (a few minutes the first time) ..."; \
		test -x $(1)/bin/pip || { $(PYTHON) -m venv $(1) && touch $(1)/$(MADE); } || { rm -rf $(1); \
			echo "$(PYTHON) cannot create a virtual environment; install its venv module (Debian, Ubuntu: apt install python3-venv)." >&2; exit 1; }; \
		$(1)/bin/pip install -qq --no-compile --disable-pip-version-check $(2) && touch $(1)/.installed; \
	fi
endef

check-python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "'$(PYTHON)' is not a command here. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "poyo_jax needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another one: make PYTHON=python3.12" >&2; exit 1; }
