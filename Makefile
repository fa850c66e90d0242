# The two commands of the README: `make demo`, `make test`. Everything else is for developers.
.DEFAULT_GOAL := help
PY := .venv/bin/python
# Tests of one file stay together: they share platforms that take seconds to start.
WORKERS ?= 2
PYTEST = $(PY) -m pytest -n $(WORKERS) --dist loadfile

help: ## What can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.venv/.run: requirements/run.txt scripts/setup.sh
	@sh scripts/setup.sh run

.venv/.dev: requirements/dev.txt scripts/setup.sh
	@sh scripts/setup.sh dev

demo: .venv/.run ## Deploy an example agent and talk to it (KEEP=1 leaves the platform up)
	@$(PY) examples/demo.py $(if $(KEEP),--keep)

test: .venv/.dev ## The tests, under 15 minutes on two cores
	@$(PYTEST) -m "not slow"

# Much of the slow suites is waiting for virtual machines, installations and ends of leases.
test-all: WORKERS = 3
test-all: .venv/.dev ## The tests and the slow suites
	@$(PYTEST)

phoenix: .venv/.dev ## Arize Phoenix (Elastic licence) for the test that it reads what we forward
	@$(PY) tests/services/observability/phoenix_server.py

lint: .venv/.dev ## Formatter, linter, types, direction of imports
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .
	@$(PY) -m mypy
	@.venv/bin/lint-imports

format: .venv/.dev ## Let the formatter have its way
	@$(PY) -m ruff format .
	@$(PY) -m ruff check --fix .

docs: .venv/.dev ## Write the generated pages anew
	@$(PY) scripts/pages.py

lock: ## Resolve the dependencies anew
	@$(PY) -m pip install --quiet uv
	@$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header pyproject.toml --group build -o requirements/run.txt
	@$(PY) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header pyproject.toml --group dev -o requirements/dev.txt

clean: ## Remove what was made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

.PHONY: help demo test test-all phoenix lint format docs lock clean
