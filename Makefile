# Needs Python 3.11 or newer and make, nothing else. Everything is installed into .venv on first use.

ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
endif
BIN := .venv/bin
STAMP := .venv/installed
# One worker a core (eight at most), one thread a worker: torch's own threads would only get in each other's way.
JOBS ?= logical
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 8 --dist worksteal

.PHONY: help demo test test-slow test-gpu lint format bench clean

help:
	@echo 'make demo       train on built-in data, measure, export, verify; says where the report is (about 2 minutes)'
	@echo 'make test       the default tests'
	@echo 'make test-slow  the tests that take minutes      make test-gpu  those that need a CUDA device'
	@echo 'make lint       ruff and pyright                 make format    let ruff rewrite the files'
	@echo 'make bench      speed table of this machine      make clean     remove outputs and caches, keep .venv'

$(STAMP): pyproject.toml constraints.txt
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed; say where it is: make PYTHON=/path/to/python3.12'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt pip
	$(BIN)/python -m pip install --quiet -c constraints.txt --build-constraint constraints.txt -e '.[all]' --group dev
	@touch $(STAMP)

demo: $(STAMP)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh demo-output

test: $(STAMP)
	$(PYTEST)

test-slow: $(STAMP)
	$(PYTEST) -m slow

test-gpu: $(STAMP)
	$(BIN)/python -m pytest -m gpu

# pyright brings its own node and its own sources; the variable stops it from looking for news of itself.
lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(STAMP)
	$(BIN)/saccade bench --models shvit_s1,efficientvim_m1,timm/mobilevitv2_100 --backends torch,compile,onnx,openvino

clean:
	rm -rf demo-output build dist .pytest_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
