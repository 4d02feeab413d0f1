# Two commands on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REQUIREMENTS := requirements/dev.txt
# On Linux the package index gives the CUDA build; TORCH_INDEX names another index, see README.md.
TORCH := torch==2.13.0

.PHONY: requirements demo test check lint format clean install

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml $(REQUIREMENTS)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "unmask needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(TORCH)
	$(BIN)/python -m pip install --quiet --require-hashes -r $(REQUIREMENTS)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: install
	$(BIN)/unmask scan examples/images --table --overwrite -o demo/results.json -o demo/report.html

test: lint
	$(BIN)/pytest

check: test

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo dist .mypy_cache .ruff_cache .pytest_cache

# The pinned, hashed versions that `install` takes. torch is left out: its build is chosen apart.
requirements:
	mkdir -p build
	sed '/"torch>=/d' pyproject.toml > build/pyproject.toml
	echo 'torch; python_version < "3"' > build/without-torch.txt  # peft asks for it too
	uv pip compile --quiet --override build/without-torch.txt build/pyproject.toml --group build/pyproject.toml:dev --universal \
	  --python-version 3.11 --generate-hashes --no-header --no-annotate -o $(REQUIREMENTS)
