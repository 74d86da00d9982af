# Needs Python 3.11, pip and make; everything else is installed into .venv by the first target that needs it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WHEEL := .cache/wheel

.PHONY: demo test slow check lint types imports wheel oldest clean

demo: .venv/user
	$(BIN)/python -m demo.faces
	$(BIN)/python -m demo.signatures

test: .venv/developer
	$(BIN)/python -m pytest

slow: .venv/developer
	$(BIN)/python -m pytest -m slow

# `make test check` runs the suite once.
check: lint types imports test wheel

lint: .venv/developer
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/developer
	$(BIN)/mypy

imports: .venv/developer
	$(BIN)/lint-imports

# The README's examples, with nothing but the wheel and the extras that the README names.
wheel: .venv/developer
	rm -rf $(WHEEL)
	$(BIN)/python -m build --wheel --outdir $(WHEEL)/dist
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -m pip install --quiet --constraint constraints.txt "$$(echo $(WHEEL)/dist/*.whl)[cpu,face]"
	$(BIN)/python -m demo.portraits $(WHEEL)/pictures --cache .cache/portraits
	$(BIN)/python -m demo.signature_files $(WHEEL)/pictures
	cd $(WHEEL)/pictures && VERIFYKIT_HOME=../home ../venv/bin/python -I ../../../tests/e2e/readme.py ../../../README.md

# The tests again, without the extras train and export, on the oldest versions that pyproject.toml allows (OpenCV 4.10 among them).
oldest:
	$(PYTHON) -m venv .cache/oldest
	.cache/oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[cpu,face,evaluate,dev]"
	.cache/oldest/bin/python -m pytest --ignore tests/architecture

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.venv/user: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cpu,face]"
	touch $@

.venv/developer: .venv/user
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cpu,face,evaluate,batch,train,export,dev]"
	touch $@
