# Two commands set everything up: `make demo` and `make test`. The stamps in .venv redo an install when a source changed.
PYTHON ?= python3
PIP := .venv/bin/python -m pip --disable-pip-version-check install --quiet
SOURCES := pyproject.toml setup.py $(wildcard kernels/*.c kernels/*.h bindings/*.pyx)
STUBS := $(wildcard engine/steelyard/_native/*.pyi)

.PHONY: .venv demo test lint bench paper clean

.venv: .venv/.test

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "steelyard needs Python 3.11 or later: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.base: .venv/bin/python $(SOURCES)
	$(PIP) -e .
	@touch $@

.venv/.test: .venv/bin/python $(SOURCES)
	$(PIP) -e '.[test]'
	@touch .venv/.base $@

.venv/.lint: .venv/bin/python $(SOURCES)
	$(PIP) -e '.[test,dev]'
	@touch .venv/.base .venv/.test $@

.venv/.bench: .venv/bin/python $(SOURCES)
	$(PIP) -e '.[test,bench]'
	@touch .venv/.base .venv/.test $@

demo: .venv/.base
	.venv/bin/steelyard demo

test: .venv/.test
	.venv/bin/python -m pytest

lint: .venv/.lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	PATH=".venv/bin:$$PATH" .venv/bin/cython-lint bindings
	.venv/bin/lint-imports
	$(if $(STUBS),.venv/bin/stubtest $(patsubst engine/steelyard/_native/%.pyi,steelyard._native.%,$(STUBS)))

bench: .venv/.bench
	.venv/bin/python -m pytest benchmarks --benchmark-only

paper: .venv/.test
	.venv/bin/python -m benchmarks.paper

clean:
	rm -rf .venv build dist paper report.html debiased.html .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .benchmarks
	rm -rf engine/*.egg-info engine/steelyard/_native/*.so
	find engine tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
