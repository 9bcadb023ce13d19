# Two commands do everything on a fresh Debian machine: `make demo` and `make test`.
# As root they install what is missing; otherwise they say what to install.

VENV        ?= .venv
NEWEST_VENV ?= .venv-newest
PYTHON3     ?= python3
PYTHON      := $(VENV)/bin/python
TEST_JOBS   ?= $(shell nproc)
RUN         := scripts/with-services
PYTEST      := $(RUN) $(PYTHON) -m pytest

export PYTHON3 PYTHON NEWEST_VENV TEST_JOBS

.DEFAULT_GOAL := help
.PHONY: help venv services lint lint-ruff lint-format lint-types lint-imports lint-migrations \
        format test test-fast test-newest newest demo observe smoke bench faults faults-long mutation clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- the machine ---

venv: $(VENV)/.stamp ## make .venv with Chroniker and its tools; again when pyproject.toml changes

$(VENV)/.stamp: pyproject.toml scripts/venv
	@scripts/services headers
	@scripts/venv $(VENV) $(PYTHON3)

services: ## install and start databases and brokers; find Prometheus, cron, Chromium
	@scripts/services

# Without a newer Python there is nothing to make: scripts/test says so in its summary.
newest: ## make .venv-newest with the newest Python and Django
	@[ $(NEWEST_VENV)/.stamp -nt pyproject.toml ] || { \
	    python="$$(scripts/newest-python)"; \
	    [ -z "$$python" ] || UPGRADE=1 scripts/venv $(NEWEST_VENV) "$$python"; \
	}

# --- checks ---

lint: venv ## ruff, mypy, import-linter, migrations in step with the models
	@$(MAKE) --no-print-directory --keep-going --jobs=$(TEST_JOBS) --output-sync=target \
	    lint-types lint-migrations lint-imports lint-ruff lint-format
	@echo "lint: clean"

lint-ruff:
	$(VENV)/bin/ruff check --output-format=concise .
lint-format:
	$(VENV)/bin/ruff format --check .
lint-types:
	$(VENV)/bin/mypy
lint-imports:
	$(VENV)/bin/lint-imports --no-logo
lint-migrations:
	DJANGO_SETTINGS_MODULE=tests.settings $(PYTHON) -m django makemigrations --check --dry-run

format: venv ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

test: services venv newest ## everything: lint, tests on three databases, newest Python and Django
	@$(RUN) scripts/test

test-fast: venv ## the fast tests on SQLite
	@$(PYTEST) --numprocesses $(TEST_JOBS) --dist loadgroup -m "not slow"

test-newest: venv newest ## the fast tests on SQLite with the newest Python and Django
	@$(RUN) scripts/test newest

# --- to see it work ---

demo: venv ## a bookshop on SQLite whose jobs do real work: site, admin, metrics
	@$(PYTHON) -m demo

observe: services venv ## the demonstration, watched by Prometheus, Alertmanager, and Grafana if there
	@$(PYTHON) -m demo observe

smoke: venv ## run the demo and test it
	@$(PYTHON) -m demo smoke

bench: services venv ## what a tick, a scrape and a call cost
	@$(RUN) $(PYTHON) -m benchmarks

# Each kind of database in a process of its own; two cores carry two of them at a time.
FAULTS      := $(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target \
                   faults-on-postgres faults-on-mariadb faults-on-sqlite

faults: services venv ## kill -9, lost connections, frozen hosts: a few minutes
	@$(FAULTS)

faults-long: services venv ## the same with ten times the slots, and ten hosts
	@CHRONIKER_FAULTS_LONG=1 $(FAULTS)

faults-on-%:
	@CHRONIKER_FAULT_BACKENDS=$* $(PYTEST) -m faults tests/faults

mutation: services venv ## small changes to the code, one at a time: do the tests notice? (by hand)
	@$(RUN) $(PYTHON) scripts/mutation $(MUTATION)

clean: ## remove what was made here; servers and their databases stay
	rm -rf $(VENV) $(NEWEST_VENV) var build dist htmlcov .coverage* \
	    .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
