# Everything a newcomer needs. `make` alone explains.

BIN     := .venv/bin
READY   := .venv/.ready
LIBS    := fieldsvc/console/node_modules/.ready
WORDS   := fieldsvc/console/translations/zh/LC_MESSAGES/messages.mo
CLIENTS := tests/interop/node_modules/.ready
DB      ?= both
JOBS    ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo simulate run test check fuzz bench format words lock clean

help:
	@echo "fieldsvc: dispatch field work by geography, take offline results, keep records an auditor can check"
	@echo
	@echo "  make demo               see the whole job done on a bundled county, then leave the service up"
	@echo "  make demo EXIT=1        the same, but end; status 0 only if every count is right"
	@echo "  make demo DATA=folder   play it with real data, for example DATA=../shared/data"
	@echo "  make simulate           200 devices on bad lines, servers killed at random; status 0 only if nothing was lost"
	@echo "                          ARGS='--devices 6 --hours 2 --seed 5 --database postgresql' for another one"
	@echo "  make run                an empty service of your own, kept in ./var  (Ctrl-C ends it)"
	@echo "  make test               all tests on SQLite and PostgreSQL with a real Redis"
	@echo "                          DB=sqlite or DB=postgresql for one; ARGS='-k seals' for some; JOBS=4 at once"
	@echo "  make check              lint, types, layers, API description and migrations in step with the code"
	@echo "  make fuzz               thousands of odd requests against the API's description"
	@echo "  make bench              what we claim about speed"
	@echo "  make format             let ruff lay out the code"
	@echo "  make words              gather what the console says for translation"
	@echo "  make lock               choose newer versions of the dependencies"
	@echo "  make clean              remove what make made (not ./var)"
	@echo
	@echo "Set-up happens by itself: Python 3.11 or newer and a package registry are enough, no root, no Docker."

setup: $(READY) $(LIBS) $(WORDS)

$(READY): requirements-dev.lock pyproject.toml tools/find-python
	@set -e; python="$$(sh tools/find-python)"; \
	echo "setting up .venv with $$($$python --version)"; \
	$$python -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Browser libraries of the console.
$(LIBS): fieldsvc/console/package-lock.json fieldsvc/console/.npmrc | $(READY)
	@cd fieldsvc/console && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent
	@touch $@

# What the console says in Chinese, as it is read at run time.
$(WORDS): $(WORDS:.mo=.po) tools/catalogue.py | $(READY)
	@$(BIN)/python -m tools.catalogue --compile

# Public sync clients of the tests, and axe; Node comes with the development requirements.
$(CLIENTS): tests/interop/package-lock.json tests/interop/.npmrc | $(READY)
	@cd tests/interop && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent
	@touch $@

demo: $(READY) $(LIBS) $(WORDS)
	$(BIN)/fieldsvc demo $(if $(DATA),--data "$(DATA)") $(if $(EXIT),--exit)

simulate: $(READY)
	$(BIN)/fieldsvc simulate $(ARGS)

run: $(READY) $(LIBS) $(WORDS)
	$(BIN)/fieldsvc up

test: $(READY) $(LIBS) $(WORDS) $(CLIENTS)
	$(BIN)/python -m pytest --db $(DB) -n $(JOBS) --dist loadscope --no-loadscope-reorder $(ARGS)

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/fieldsvc openapi --check
	$(BIN)/python -m tools.check_schema
	$(BIN)/python -m tools.catalogue --check

fuzz: $(READY)
	$(BIN)/python -m tools.fuzz $(ARGS)

bench: $(READY) $(LIBS) $(WORDS)
	$(BIN)/python -m bench.push
	$(BIN)/python -m bench.pull
	$(BIN)/python -m bench.sync
	$(BIN)/python -m bench.territories
	$(BIN)/python -m bench.dispatch
	$(BIN)/python -m bench.dispatch --vrptw
	$(BIN)/python -m bench.dispatch --large
	$(BIN)/python -m bench.replay
	$(BIN)/python -m bench.console

format: $(READY)
	$(BIN)/ruff check --fix-only --exit-zero
	$(BIN)/ruff format

words: $(READY)
	$(BIN)/python -m tools.catalogue

lock: $(READY)
	$(BIN)/python -m tools.lock

clean:
	rm -rf .venv fieldsvc/console/node_modules tests/interop/node_modules .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
