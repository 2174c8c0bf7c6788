# Each of these sets up what it needs on a fresh machine.
VENV := .venv
PYTHON ?= python3
STAMP := $(VENV)/.installed

.PHONY: demo test mutations lint clean

demo: $(STAMP)
	$(VENV)/bin/dpsad quickstart

# one process a core, of one thread each
test: $(STAMP)
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile

mutations: $(STAMP)
	$(VENV)/bin/python tests/mutations/mutation_runner.py

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy benchmarks

$(STAMP): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build *.egg-info
