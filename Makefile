# One word for each thing a developer does. Nothing is assumed but Python >= 3.11, make and PyPI:
# the first use of a target makes .venv and installs into it what that target needs, once.
# Another Python gets a venv of its own: make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.NOTPARALLEL:        # all targets share one .venv
.DELETE_ON_ERROR:
.PHONY: help run test pure coverage foreign simulate attack lint format docs bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.installed-run ## run the hello example: six mobsters, a web server on port 1337
	$(BIN)/python examples/hello/main.py

# A test that hangs where its timeout does not reach it: its stacks are shown, and its process ends. Another tries again.
HANGS = -o faulthandler_timeout=400 -o faulthandler_exit_on_timeout=true --max-worker-restart=2
test: $(VENV)/.installed-test ## run all tests; ARGS="-k floors" picks some
	$(BIN)/python -m pytest -q -n 4 --dist loadfile $(HANGS) $(ARGS)

# What needs no process is tested to the last line and branch; a seed, so that two runs see the same.
PURE_FLOOR = 100
PURE = src/mob/core/*,src/mob/wire/*,src/mob/errors.py,src/mob/plan.py,src/mob/serve*.py,src/mob/sizes.py,src/mob/spellings.py,src/mob/templates.py,src/mob/stores/book.py,src/mob/stores/locks.py,src/mob/stores/rates.py,src/mob/stores/watchers.py
PURE_TESTS = tests/core tests/wire tests/test_app.py tests/test_errors.py tests/test_plan.py tests/test_serve.py tests/test_sizes.py tests/test_spellings.py tests/test_templates.py tests/stores
pure: $(VENV)/.installed-test ## show which lines and branches of core, wire and what else is pure their own tests leave out
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n 0 --hypothesis-seed=0 $(PURE_TESTS) $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='$(PURE)' --fail-under=$(PURE_FLOOR)

# Each process measures itself, also Kingpins and mobsters; that takes time, so tests are given more of it. What is
# killed has no time to say what it ran, and a file that it had begun is left out with a warning. A test that fails does
# not keep the report back, which took half an hour.
coverage: $(VENV)/.installed-test ## run all tests and show which lines and branches none has run
	$(BIN)/coverage erase
	MOB_TEST_PATIENCE=$${MOB_TEST_PATIENCE:-3} $(BIN)/coverage run -m pytest -q -n 4 --dist loadfile $(ARGS); \
	    echo $$? >.coverage.d/status
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report
	$(BIN)/coverage report --include='$(PURE)' --fail-under=$(PURE_FLOOR)
	@exit $$(cat .coverage.d/status)

foreign: $(VENV)/.installed-foreign ## run other projects' own tests against mob, such as CPython's of executors; ARGS="django" picks one
	$(BIN)/python -m tests.foreign $(ARGS)

simulate: $(VENV)/.installed-test ## ten million events of seeded faults on a fake clock; ARGS="--seed 7" replays
	$(BIN)/python -m tests.simulation $(ARGS)

SECONDS = 60
attack: $(VENV)/.installed-test ## fuzz frames, decoders, desk and links, a minute each; SECONDS=, SEED=, ARGS="desk" picks one
	$(BIN)/python -m tests.attack --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)

lint: $(VENV)/.installed-lint ## check style, format, types and language
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes mob --ignoreexternal >$(VENV)/public-types.txt \
	    || { grep -B 1 error: $(VENV)/public-types.txt; exit 1; }
	@grep score $(VENV)/public-types.txt
	$(BIN)/python docs/check_prose.py

format: $(VENV)/.installed-lint ## mend style and format in place
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.installed-docs ## build the documentation into site/; ARGS=serve shows it while it is written
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(or $(ARGS),build)
	$(if $(ARGS),,@echo "built: site/index.html")

# Ray is tried, and done without where it cannot be installed.
bench: $(VENV)/.installed-bench ## measure mob, beside others that do the same
	@$(MAKE) $(VENV)/.installed-bench-ray || echo "Ray cannot be installed here: its column is left out" >&2
	$(BIN)/python -m bench $(ARGS)
	$(BIN)/python -m bench.supervision
	$(BIN)/python -m bench.fanout
	$(BIN)/python -m bench.pools

clean: ## remove the venvs and everything that was made
	rm -rf $(VENV) .venv-* build dist site .foreign .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A venv that could not be finished is removed, so that the next try starts afresh.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else \
	    f"mob needs Python 3.11 or newer, $(PYTHON) is {sys.version.split()[0]}: try make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	    echo "'$(PYTHON) -m venv' failed (on Debian: apt-get install python3-venv)" >&2; exit 1; }

$(VENV)/.installed-run: pyproject.toml | $(BIN)/python
	$(PIP) --editable .
	@touch $@

# .installed-X stands for the optional dependencies [X] of pyproject.toml.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(PIP) --editable '.[$*]'
	@touch $@
