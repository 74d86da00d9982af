# Needs Python 3.11, pip and make; everything else is installed into .venv by the first target that needs it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
WHEEL := .cache/wheel
VERSIONS := .cache/versions
# A file's tests share what is slow to make, so a file stays with one worker.
AT_ONCE := --numprocesses auto --maxprocesses 4 --dist loadfile

.PHONY: demo test slow browser check lint types imports processor processors docs wheel versions oldest opencv-4.12 cuda openvino clean

demo: .venv/user
	$(BIN)/python -m demo.faces
	$(BIN)/python -m demo.signatures

test: .venv/developer
	$(BIN)/python -m pytest $(AT_ONCE)

slow: .venv/developer
	$(BIN)/python -m pytest -m slow

# The page of the service in a real browser, with a fake camera; not part of `make test`.
browser: /usr/bin/chromium .venv/developer
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[browser]"
	$(BIN)/python -m pytest -m browser tests/e2e/browser

/usr/bin/chromium:
	@echo "make browser drives Debian's Chromium, which is not at $@: apt-get install chromium" >&2; exit 1

# `make test check` runs the suite once.
check: lint types imports test processor openvino docs wheel

lint: .venv/developer
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: .venv/developer
	$(BIN)/mypy
	$(BIN)/mypy docs/how-to/*.py

imports: .venv/developer
	$(BIN)/lint-imports

# Tests that compare numbers, as on processors with other instructions (torch, oneDNN, NumPy and OpenCV).
processor: .venv/developer
	$(BIN)/python tests/helpers/run_on_processor.py avx2 --short

processors: .venv/developer
	$(BIN)/python tests/helpers/run_on_processor.py avx2 $(AT_ONCE)
	$(BIN)/python tests/helpers/run_on_processor.py sse4.1 $(AT_ONCE)

# What a GPU can run, on a bare machine with an NVIDIA driver; in an environment of its own, as onnxruntime-gpu and
# onnxruntime overwrite each other. Never run on a GPU.
cuda:
	test -x .cache/venv-cuda/bin/python || $(PYTHON) -m venv .cache/venv-cuda
	.cache/venv-cuda/bin/python -m pip install --quiet --editable ".[gpu,face,train]"
	.cache/venv-cuda/bin/python -m benchmarks.cuda

# The site, from .cache/site/index.html; a warning is an error. (mkdocs-material advertises at every start unless told not to.)
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# The README's examples, with nothing but the wheel and the extras that the README names.
wheel: .venv/developer
	rm -rf $(WHEEL)
	$(BIN)/python -m build --wheel --outdir $(WHEEL)/dist
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -m pip install --quiet --constraint constraints.txt "$$(echo $(WHEEL)/dist/*.whl)[cpu,face]"
	$(BIN)/python -m demo.portraits $(WHEEL)/pictures --cache .cache/portraits
	$(BIN)/python -m demo.signature_files $(WHEEL)/pictures
	cd $(WHEEL)/pictures && VERIFYKIT_HOME=../home ../venv/bin/python -I ../../../tests/helpers/run_document.py ../../../README.md

# The README's examples on each Python that pyproject.toml names and that is here (pyenv's, or on the path); what is
# missing is skipped, and said.
versions: .venv/developer
	rm -rf $(VERSIONS)
	$(BIN)/python -m build --wheel --outdir $(VERSIONS)/dist
	$(BIN)/python -m demo.portraits $(VERSIONS)/pictures --cache .cache/portraits
	$(BIN)/python -m demo.signature_files $(VERSIONS)/pictures
	@set -e; for version in 3.10 3.11 3.12 3.13; do \
	  python=$$(ls -d $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version.*/bin/python 2>/dev/null | tail -n 1); \
	  python=$${python:-$$(command -v python$$version || true)}; \
	  if [ -z "$$python" ]; then echo "Python $$version: not found, skipped"; continue; fi; \
	  $$python -m venv $(VERSIONS)/$$version; \
	  $(VERSIONS)/$$version/bin/python -m pip install --quiet "$$(echo $(VERSIONS)/dist/*.whl)[cpu,face]"; \
	  cp -r $(VERSIONS)/pictures $(VERSIONS)/$$version/pictures; \
	  (cd $(VERSIONS)/$$version/pictures && VERIFYKIT_HOME=../home ../bin/python -I ../../../../tests/helpers/run_document.py ../../../../README.md); \
	  echo "Python $$version: the README runs from the wheel ($$python)"; \
	done

# The tests again, without the extras train and export, on the oldest versions that pyproject.toml allows (OpenCV 4.10 among them).
oldest:
	$(PYTHON) -m venv .cache/oldest
	.cache/oldest/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[cpu,face-plus,server,evaluate,dev]"
	.cache/oldest/bin/python -m pytest --ignore tests/architecture

# compare against OpenCV 4.12 in an environment of its own; DATA=PATH is the folder with faces/.
opencv-4.12:
	$(PYTHON) -m venv .cache/opencv-4.12
	.cache/opencv-4.12/bin/python -m pip install --quiet --editable ".[cpu,face,evaluate]" onnx "opencv-python-headless==4.12.0.88"
	.cache/opencv-4.12/bin/python -m benchmarks.face --only speed --data $(DATA)

# The provider OpenVINO, whose build of ONNX Runtime replaces the usual one, in an environment of its own.
OPENVINO := .cache/openvino
openvino: $(OPENVINO)/ready
	$(OPENVINO)/bin/python -m pytest tests/e2e/test_openvino.py

$(OPENVINO)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OPENVINO)
	$(OPENVINO)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[openvino,face]" hypothesis pytest pytest-timeout
	touch $@

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

.venv/user: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cpu,face]"
	touch $@

.venv/docs: .venv/user
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@

.venv/developer: .venv/user
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[cpu,face-plus,server,evaluate,batch,train,export,docs,fuzz,dev]"
	touch $@
