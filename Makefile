# The newcomer's commands: `make run` and `make test`. Everything lives in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run license-demo test test-compiled check soak bench bench-quick bench-reference format reference clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev,bench]'
	touch $@

run: $(VENV)/.installed          ## the demo: a simulated internet and a real Sluice
	$(BIN)/sluice demo

license-demo: $(VENV)/.installed ## a licence from its keys to its last Email and on, with a real vendor
	$(BIN)/python -m tests.demo.license_chain

check: $(VENV)/.installed        ## format, lint, types, floors, rules about refusals
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/sluice bounce lint

test: check                      ## checks and every test, as CI runs it
	$(BIN)/pytest -n 3 --dist worksteal -m 'not soak and not serial'
	$(BIN)/pytest -m 'serial and not soak'

test-compiled: $(VENV)/.installed  ## the same tests over a wheel that mypyc has compiled (two minutes to build)
	rm -rf build/compiled build/wheel
	SLUICE_COMPILE=1 $(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/python -m zipfile -e build/wheel/*.whl build/compiled
	cp -r .ci .gitignore pyproject.toml Makefile README.md CHANGELOG.md bench config docs systemd tests build/compiled
	cd build/compiled && $(abspath $(BIN))/python -m mta --version && $(abspath $(BIN))/pytest -n 3 --dist worksteal -m 'not soak and not serial'

soak: $(VENV)/.installed         ## the long counts
	$(BIN)/pytest -m soak --timeout 7200

RUNS ?= 5
WORKERS ?= 2
bench: $(VENV)/.installed        ## the speed, against peers on the same machine
	$(BIN)/python -m bench --runs $(RUNS)

bench-quick: $(VENV)/.installed  ## a few scenarios in small counts, beside Postfix, under five minutes: is it alive?
	$(BIN)/python -m bench --quick --runs 1

# An environment of its own with the wheel that mypyc has compiled, as it is after `pip install .`.
MEASURED := build/measured
$(MEASURED)/.installed: pyproject.toml $(shell find mta licensing -name '*.py' -o -name '*.sql')
	rm -rf $(MEASURED) build/wheel
	$(PYTHON) -m venv $(MEASURED)
	SLUICE_COMPILE=1 $(MEASURED)/bin/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(MEASURED)/bin/pip install --quiet "$$(ls build/wheel/*.whl)[dev,bench]"
	touch $@

# It goes on where it was stopped. ONLY="spread million": these alone; AGAIN=1: what is measured already, too; PLAN=1: only say.
bench-reference: $(MEASURED)/.installed ## everything with the compiled wheel; then results, charts and bench/README.md anew
	$(MEASURED)/bin/python -m bench --runs $(RUNS) --workers $(WORKERS) --to bench/results/reference.json \
		$(if $(ONLY),--only $(ONLY)) $(if $(AGAIN),--again) $(if $(PLAN),--plan) ; \
	status=$$? ; $(if $(PLAN),,$(MEASURED)/bin/python -m bench pages &&) exit $$status

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

reference: $(VENV)/.installed    ## write the generated reference pages
	$(BIN)/python -m mta.config.reference
	$(BIN)/python -m mta.cli.reference

clean:
	rm -rf $(VENV) build dist *.egg-info
