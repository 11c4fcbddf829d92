# `make demo` and `make test` do everything on a fresh machine: environment first, then the job.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
# The Hub client's Xet transfer bypasses plain HTTP servers; tests talk to local ones (see ../shared/facts/hub.md).
export HF_HUB_DISABLE_XET = 1

.PHONY: env demo test test-all fuzz lint docs clean

env: $(STAMP)

# sinabs pins nir<=1.0.4 and asks for samna, whose import runs pip: without its dependencies it works with nir 1.0.8.
# torch first, alone and pinned: any other order lets pip resolve a build with gigabytes of CUDA.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch numpy
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]" pbr
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps sinabs
	touch $@

demo: env
	$(BIN)/zoo demo --out demo-out

# two processes, each with whole files, so that fixtures of a file are made once
test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile

# 20,000 mutated files of every format that is read, and what came of them
fuzz: env
	$(BIN)/python -m tests.fuzz --record-results

test-all: env
	$(BIN)/python -m pytest

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site in site/; any broken link or reference is an error
docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) demo-out site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
