# On a fresh Debian machine, start with `make demo` or `make test`.
# As root they install what is missing; otherwise they print what to install.

VENV        ?= .venv
NEWEST_VENV ?= .venv-newest
NEWEST_DJANGO ?= 6.1
PYTHON3     ?= python3
PYTHON      := $(VENV)/bin/python
# Tests wait for processes and servers much of the time: one worker more than there are cores.
TEST_JOBS   ?= $(shell expr $$(nproc) + 1)
RUN         := scripts/with-services
PYTEST      := $(RUN) $(PYTHON) -m pytest

export PYTHON3 PYTHON NEWEST_VENV TEST_JOBS

.DEFAULT_GOAL := help
.PHONY: help venv services lint lint-ruff lint-format lint-types lint-imports lint-migrations \
        format test test-fast test-newest test-matrix newest demo demo-celery observe smoke screenshots bench bench-peers package faults faults-long mutation clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- the machine ---

venv: $(VENV)/.stamp ## create .venv with Chroniker and its tools; update it when pyproject.toml changes

$(VENV)/.stamp: pyproject.toml scripts/venv
	@scripts/services headers
	@scripts/venv $(VENV) $(PYTHON3)

services: ## install and start databases and brokers; install Prometheus, cron, Chromium
	@scripts/services

# Without a newer Python this does nothing; the summary of scripts/test reports it.
# Django is named, because a resolver silently takes an older one when a package forbids the newest.
# python-dateutil is the new one there, and the old one in .venv, for Celery and holidays.
newest: ## create .venv-newest with the newest Python and Django
	@[ $(NEWEST_VENV)/.stamp -nt pyproject.toml -a $(NEWEST_VENV)/.stamp -nt Makefile ] || { \
	    python="$$(scripts/newest-python)"; \
	    [ -z "$$python" ] || UPGRADE=1 DJANGO=$(NEWEST_DJANGO) CONSTRAINTS='python-dateutil>=4' \
	        scripts/venv $(NEWEST_VENV) "$$python"; \
	}

# --- checks ---

lint: venv ## ruff, mypy, import-linter, check for missing migrations
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

format: venv ## format the code and apply automatic fixes
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

test: services venv newest ## lint, all tests on three databases, fast tests on the newest Python and Django
	@$(RUN) scripts/test

test-fast: venv ## run the fast tests on SQLite
	@$(PYTEST) --numprocesses $(TEST_JOBS) --dist loadgroup -m "not slow"

test-newest: venv newest ## run the fast tests on SQLite with the newest Python and Django
	@$(RUN) scripts/test newest

test-matrix: venv ## run the fast tests with each Django and python-dateutil (not in CI)
	@$(RUN) scripts/test-matrix $(MATRIX)

# --- demo, benchmarks, faults ---

demo: venv ## run a demo site: a bookshop with jobs, monitors, admin and metrics
	@$(PYTHON) -m demo

demo-celery: services venv ## the same, with jobs on two Celery workers and Redis
	@$(PYTHON) -m demo celery

observe: services venv ## run the demo with Prometheus, Alertmanager and, if installed, Grafana
	@$(PYTHON) -m demo observe

screenshots: services venv ## take the screenshots of the documentation from the demo
	@$(PYTHON) scripts/screenshots

smoke: venv ## run the demo and test it
	@$(PYTHON) -m demo smoke

bench: services venv ## measure what a tick, a scrape and a call cost
	@$(RUN) $(PYTHON) -m benchmarks

# About an hour. They start and kill servers of their own, so that nothing else is disturbed.
bench-peers: services venv ## compare with other schedulers, and write the tables of the documentation
	@$(RUN) $(PYTHON) -m benchmarks.peers --write

# Each kind of database runs in its own process, two at a time; so do Celery workers and brokers.
FAULTS      := $(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target \
                   faults-on-postgres faults-on-mariadb faults-on-sqlite faults-on-workers

faults: services venv ## inject faults (kill -9, lost connections, frozen hosts) for a few minutes
	@$(FAULTS)

faults-long: services venv ## inject faults for 10,000 slots per kind of database, and deploy 20 times
	@CHRONIKER_FAULTS_LONG=1 $(FAULTS)

faults-on-%:
	@CHRONIKER_FAULT_BACKENDS=$* $(PYTEST) -m faults tests/faults

package: venv ## build the package; check it with twine, check-wheel-contents and pip-audit
	@scripts/check-package

mutation: services venv ## run mutation tests: do the tests notice small changes? (not in CI)
	@$(RUN) $(PYTHON) scripts/mutation $(MUTATION)

clean: ## remove everything that was built; servers and databases stay
	rm -rf $(VENV) $(NEWEST_VENV) var build dist htmlcov .coverage* \
	    .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
