# Each target first sets up what it needs in .venv; nothing is installed outside of it.
# PYTHON=... names the Python to make .venv with, ARGS=... goes to the demo, pytest or the bench.
# Tests wait a third of their time, so two cores have work for three processes of them. They start
# many more, each of which would compile all that it imports if bytecode were not kept.

BIN := .venv/bin
COMPILED := .venv-compiled/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DELETE_ON_ERROR:
.PHONY: install demo test test-compiled bench check docs format protos

install: .venv/.dev

demo: .venv/.all
	$(BIN)/osmo-pipeline demo $(ARGS)

test: .venv/.dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

# The same tests, put to the compiled wheel in the place of the source tree.
test-compiled: .venv/.dev .venv-compiled/.done
	@[ ! -d $(COMPILED) ] || PYTHONDONTWRITEBYTECODE= OSMO_TEST_COMPILED=1 \
		$(COMPILED)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: .venv-compiled/.done
	@if [ -d $(COMPILED) ]; then $(COMPILED)/osmo-pipeline bench --beside $(BIN)/python $(ARGS); \
		else $(BIN)/osmo-pipeline bench $(ARGS); fi

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tests.examples .examples && $(BIN)/mypy .examples
	$(BIN)/lint-imports
	scripts/gen_protos.sh --check
	$(MAKE) --no-print-directory docs

# Strict: a dead link or anchor is an error. Nothing outside of the repository is asked.
docs: .venv/.dev
	$(BIN)/sphinx-build -q -E -W --keep-going -n -c docs . site

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: .venv/.dev
	scripts/gen_protos.sh

.venv/bin/python:
	python=$$(scripts/find_python.sh) && "$$python" -m venv --clear .venv

.venv/.all: pyproject.toml | .venv/bin/python
	@echo "setting up .venv"
	$(PIP) install --editable '.[all]'
	touch $@

.venv/.bench: pyproject.toml | .venv/bin/python
	@echo "setting up .venv"
	$(PIP) install --editable '.[bench]'
	touch .venv/.all $@

.venv/.dev: pyproject.toml | .venv/bin/python
	@echo "setting up .venv"
	$(PIP) install --editable '.[all,dev]'
	touch .venv/.all .venv/.bench $@

# Not there where there is no C compiler, which is then said each time.
.venv-compiled/.done: $(shell find libs protos services -name '*.py') hatch_build.py pyproject.toml \
		scripts/compile.sh | .venv/.bench
	@scripts/compile.sh
