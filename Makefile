# Two commands set everything up: `make demo` and `make test`. The stamps in .venv redo an install when a source changed.
PYTHON ?= python3
PIP := .venv/bin/python -m pip --disable-pip-version-check install --quiet
SOURCES := pyproject.toml setup.py $(wildcard kernels/*.c kernels/*.h bindings/*.pyx)
STUBS := $(wildcard engine/steelyard/_native/*.pyi)

SANITIZED := build/sanitized/lib
SANITIZERS := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
CC ?= cc

.PHONY: .venv demo test lint sanitize fuzz dist docs bench coverage-study confounding long-logs paper clean

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

.venv/.docs: .venv/bin/python $(SOURCES)
	$(PIP) -e '.[test,dev,docs]'
	@touch .venv/.base .venv/.test .venv/.lint $@

# The peers have pins of their own, so they live apart.
.venv-bench/.ready: .venv/bin/python $(SOURCES)
	.venv/bin/python -m venv .venv-bench
	.venv-bench/bin/python -m pip --disable-pip-version-check install --quiet -e '.[bench]'
	@touch $@

demo: .venv/.base
	.venv/bin/steelyard demo

test: .venv/.test
	.venv/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

lint: .venv/.lint
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	PATH=".venv/bin:$$PATH" .venv/bin/cython-lint bindings
	.venv/bin/lint-imports
	$(if $(STUBS),.venv/bin/stubtest $(patsubst engine/steelyard/_native/%.pyi,steelyard._native.%,$(STUBS)))

# The kernels under address and undefined-behaviour sanitizers, over the tests of the bindings.
sanitize: .venv/.lint
	CFLAGS="$(SANITIZERS)" LDFLAGS="-fsanitize=address,undefined" .venv/bin/python setup.py --quiet build \
		--build-base build/sanitized --build-lib $(SANITIZED) build_ext --parallel 2
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
		PYTHONPATH=$(SANITIZED) STEELYARD_FROM=$(SANITIZED) .venv/bin/python -m pytest tests/native

# libFuzzer on the loader of saved results: the same inputs every time; to look for new faults, FUZZ=-max_total_time=600.
fuzz: .venv/.lint
	PYTHONHASHSEED=0 PYTHONPATH=. .venv/bin/python -m tests.abuse.fuzz_load $(or $(FUZZ),-seed=1 -runs=8000)

# The source distribution, the wheel made from it, and the tests against that wheel, away from the checkout.
dist: .venv/.lint
	rm -rf dist build/outside
	.venv/bin/python -m build --no-isolation
	.venv/bin/twine check --strict dist/*
	.venv/bin/check-wheel-contents dist/*.whl
	mkdir build/outside
	tar -xzf dist/*.tar.gz -C build/outside --strip-components 1
	$(PIP) --no-deps --target build/outside/installed dist/*.whl
	place=$$(mktemp -d) && trap 'rm -rf $$place' EXIT && mv build/outside/installed build/outside/tests build/outside/pyproject.toml $$place \
		&& cd $$place && PYTHONPATH=$$place/installed STEELYARD_FROM=$$place/installed \
		$(CURDIR)/.venv/bin/python -m pytest -q -p no:cacheprovider -n auto -m 'not slow' tests/native tests/models/test_bradley_terry.py tests/test_log.py tests/test_cli.py

docs: .venv/.docs
	.venv/bin/sphinx-build --fail-on-warning --keep-going --quiet docs build/site
	@echo "the site is at build/site/index.html"

bench: .venv-bench/.ready
	.venv-bench/bin/python -m benchmarks.side_by_side --scale $(or $(SCALE),1)

coverage-study: .venv/.test
	.venv/bin/python -m benchmarks.coverage $(REPEATS)

confounding: .venv/.test
	.venv/bin/python -m benchmarks.confounding $(REPEATS)

long-logs: .venv/.test
	.venv/bin/python -m benchmarks.long_logs $(MILLIONS)

paper: .venv/.test
	.venv/bin/python -m benchmarks.paper

clean:
	rm -rf .venv .venv-bench build dist paper report.html debiased.html .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .benchmarks
	rm -rf engine/*.egg-info engine/steelyard/_native/*.so
	find engine tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
