# Needs make and Python 3.11 or newer; .venv is built from the lock file, and deploy/setup.sh sees
# to servers, browser and Node.js where a target needs them.
.DEFAULT_GOAL := help

# Tests start the programs hundreds of times: they are compiled once, whatever the machine says.
export PYTHONDONTWRITEBYTECODE :=

# Names what .venv was built from and where, because a .venv that was copied or moved still runs
# the programs of the old place.
LOCKED := .venv/.locked-$(shell { pwd; cat requirements.lock; } | cksum | cut -d ' ' -f 1)
READY := .venv/.ready
PYTEST := .venv/bin/python -m pytest
# One more than there are cores: a third of the time tests wait for servers and browsers.
WORKERS := $(shell echo $$(($$(nproc 2>/dev/null || echo 1) + 1)))
# Only errors: warnings of pip are about the machine's own configuration, not about the project.
PIP := .venv/bin/python -m pip -qq --disable-pip-version-check
UV ?= uv

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  demo takes DIR=path (keep its state there), PORT=8080 (the hub on 127.0.0.1),'
	@echo '  ONCE=1 (end after the traffic) and BROKER=rabbitmq (RabbitMQ and PostgreSQL).'
	@echo '  PYTHON=path names the Python that .venv is built with.'

.PHONY: demo
demo: $(READY) ## Run the exchange with six institutions on this machine
	@[ "$$BROKER" != rabbitmq ] || sh deploy/setup.sh rabbitmq postgresql
	@exec .venv/bin/nhri-hub demo $${ONCE:+--once} $${DIR:+--dir "$$DIR"} \
		$${PORT:+--port "$$PORT"} $${BROKER:+--broker "$$BROKER"}

.PHONY: test
test: $(READY) ## Run every test
	@sh deploy/setup.sh rabbitmq postgresql chromium openssl node promtool systemd
	$(PYTEST) -n $(WORKERS) --dist loadfile -m 'not campaign and not bench'

.PHONY: test-fast
test-fast: $(READY) ## Run the tests that start no servers
	$(PYTEST) -n auto --dist loadfile -m 'not servers and not campaign and not bench'

.PHONY: lint
lint: $(READY) ## Check style, types and who imports whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy hub schemas connectors tests
	.venv/bin/lint-imports

.PHONY: format
format: $(READY) ## Format the code and mend what ruff can mend
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

.PHONY: bench
bench: $(READY) ## Measure
	@sh deploy/setup.sh rabbitmq postgresql
	.venv/bin/python -m tests.bench

.PHONY: bench-large
bench-large: $(READY) ## Measure queries and commits in a log of 10 million entries (hours)
	@sh deploy/setup.sh postgresql
	.venv/bin/python -m tests.bench.large

.PHONY: campaign
# With late events tests mostly wait: seven at a time keep two cores half busy.
campaign: $(READY) ## Run the long tests: many random crashes and faults, and late events
	@sh deploy/setup.sh rabbitmq postgresql chromium openssl node
	$(PYTEST) -o timeout=0 -o faulthandler_timeout=0 -m campaign
	$(PYTEST) -p tests.jitter -n 7 --dist loadfile -m 'servers and not campaign and not bench'

.PHONY: publish
publish: $(READY) ## Write what is generated from the code: schemas, OpenAPI, tables
	.venv/bin/python -m tests.publish

.PHONY: lock
lock: ## Pin the dependencies of pyproject.toml again (needs uv)
	$(UV) pip compile --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --extra dev --quiet pyproject.toml -o requirements.lock

.PHONY: clean
clean: ## Remove .venv, caches and builds
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An interrupted build leaves no stamp and is done again.
$(LOCKED):
	@set -e; python=$$(sh deploy/setup.sh python); \
		echo "Building .venv with $$python from requirements.lock (about a minute) ..."; \
		"$$python" -m venv --clear .venv; \
		$(PIP) install --require-hashes -r requirements.lock; \
		touch $@

$(READY): pyproject.toml $(LOCKED)
	@echo 'Installing the project itself into .venv ...'
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
