# Each target works on a fresh machine with Python 3.11, g++ and make, without root, GPU or system
# CUDA. Everything is written to .venv and build/ in this folder, and every target can be repeated.
PYTHON ?= python3.11
# The torch to build with. The module supports 2.10 and newer. Headers before 2.14 leak some bytes
# per string argument of an operator call, so releases are built with 2.14 or newer.
TORCH ?= torch==2.14.1 torchvision==0.29.1

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PY := $(BIN)/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
NATIVE = build/$(shell $(PY) -c "import sysconfig; print(sysconfig.get_platform())")
# includes new files that are not added to git yet
NATIVE_SOURCES = $$(git ls-files --cached --others --exclude-standard --deduplicate '*.h' '*.cpp' '*.cu' '*.cuh' | \
	while read -r file; do test ! -e "$$file" || echo "$$file"; done)
export PATH := $(BIN):$(PATH)

.PHONY: help build demo docs test test-all test-oldest test-arm test-cuda12 test-sanitize bench gpu gpu-dry wheel \
	sdist lint format clean native-tests
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

# nvvm and crt are named because nvcc's package does not pin their versions, and newer ones write
# PTX that its own ptxas refuses
$(VENV)/.ready: pyproject.toml
	@echo "--- setting up $(VENV) (torch, and a CUDA compiler from PyPI unless DETCORE_CUDA=0)"
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	@cuda=$$($(PY) -c "import torch; print(torch.version.cuda or '')"); \
	if [ -n "$$cuda" ] && [ "$$DETCORE_CUDA" != 0 ]; then \
		echo "--- CUDA $$cuda compiler"; $(PIP) "cuda-toolkit[nvcc,cccl,nvvm,crt]==$$cuda.*"; fi
	$(PIP) "setuptools>=77" wheel "cmake>=3.24" ninja "pybind11>=3.0" numpy
	@touch $@

build: $(VENV)/.ready  ## set up .venv and build detcore in place
	@echo "--- building detcore; the first time takes 7 minutes of processor time for one CUDA target, about 13 for"
	@echo "    the default list (TORCH_CUDA_ARCH_LIST=7.5 asks for one, and is remembered); [done/all] counts files"
	@$(PY) setup.py --quiet build_ext --inplace
	@$(PIP) --no-build-isolation -e ".[test]"

demo: build  ## train, evaluate, draw and benchmark on real digits, about 12 minutes on two cores; results in demo/
	@sh scripts/demo.sh

docs: build  ## build the documentation and run its examples, about a minute; docs/_build/html
	@$(PY) docs/build.py

native-tests: build  ## build and run the C++ tests and the CUDA simulator
	@echo "--- building the C++ tests and the CUDA simulator: 6 minutes of processor time the first time"
	@cmake -S . -B $(NATIVE) -DDETCORE_TESTS=ON -DDETCORE_SIMT=ON >/dev/null
	@cmake --build $(NATIVE)
	@ctest --test-dir $(NATIVE) --output-on-failure --no-tests=error

test: native-tests  ## all tests except the slow ones
	$(PY) -m pytest -n 2 -m "not slow"
	@sh scripts/under_torch.sh --if-found --ops torch==2.13.0+cpu -n 2 -m "not slow and not simt" \
		tests/ops -k "reference or route or handover"

test-all: native-tests  ## all tests, including slow fuzz, static and training tests
	$(PY) -m pytest -n 2

OLDEST ?= torch==2.10.0,torchvision==0.25.0 torch==2.11.0,torchvision==0.26.0
test-oldest: native-tests  ## tests of ops, parts and models under the oldest torch versions; downloads 5 GB for each
	@for torch in $(OLDEST); do \
		sh scripts/under_torch.sh $$torch -n 2 -m "not slow and not simt" tests/ops tests/compat tests/parts tests/models || exit 1; \
	done

bench: build  ## compare every op with other libraries, about six minutes; results in benchmarks/results/
	@$(PIP) -e ".[bench]" --no-build-isolation
	$(PY) -m benchmarks.scaling benchmarks/results
	$(PY) -m pytest benchmarks --benchmark-enable --benchmark-sort=name --benchmark-columns=median,iqr,rounds \
		--results benchmarks/results

gpu:  ## check and measure on this machine's GPU: eight minutes, no network; results in benchmarks/results/
	@bash scripts/gpu_check.sh

# Only the packages of a typical GPU machine: no pycocotools, no supervision
PYTHON312 ?= python3.12
GPU_MACHINE := "cuda-toolkit[nvcc,cccl,nvvm,crt]==13.0.*" "cmake>=3.24" ninja "pybind11>=3.0" pytest pytest-benchmark \
	pytest-xdist timm accelerate torchmetrics safetensors typer rich matplotlib scikit-learn scipy pyyaml
gpu-dry:  ## dry run of gpu without a GPU, in a fresh Python 3.12 with torch 2.11 (5 GB, half an hour)
	@$(PYTHON312) -c "import sys; assert sys.version_info[:2] == (3, 12)" || \
		{ echo "make: gpu-dry needs Python 3.12: make gpu-dry PYTHON312=path" >&2; exit 2; }
	@echo "--- setting up build/gpu-dry"
	@$(PYTHON312) -m venv --clear build/gpu-dry
	@build/gpu-dry/bin/python -m pip install --quiet --disable-pip-version-check torch==2.11.0 torchvision==0.26.0
	@build/gpu-dry/bin/python -m pip install --quiet --disable-pip-version-check $(GPU_MACHINE)
	@DETCORE_GPU_CHECK_DRY=1 OUT="$${OUT:-build/gpu-dry-results}" PYTHON=$(CURDIR)/build/gpu-dry/bin/python \
		bash scripts/gpu_check.sh

wheel: build  ## one wheel per Python in wheelhouse/, each tested in a fresh environment (PYTHONS="3.11 3.12")
	@$(PY) scripts/wheels.py $(or $(PYTHONS),$(shell $(PY) -c "import sys; print('%d.%d' % sys.version_info[:2])"))

sdist: $(VENV)/.ready  ## the source distribution in dist/
	@$(PIP) build
	@$(PY) -m build --sdist >/dev/null
	@ls -l dist/*.tar.gz

test-arm: $(VENV)/.ready  ## test the kernels on 64-bit ARM with qemu, including NEON (Debian; installs as root)
	@sh scripts/need.sh aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
	@sh scripts/need.sh qemu-aarch64 qemu-user
	@echo "--- cross-compiling the kernel library, the CUDA simulator and their tests (four minutes)"
	@cmake -S . -B build/aarch64 -G Ninja -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake \
		-DDETCORE_TESTS=ON -DDETCORE_SIMT=ON -DDETCORE_CUDA=0 \
		-DDETCORE_PYTHON_SITE=$$($(PY) -c "import sysconfig; print(sysconfig.get_path('purelib'))") >/dev/null
	@cmake --build build/aarch64
	@ctest --test-dir build/aarch64 --output-on-failure --no-tests=error

test-sanitize: $(VENV)/.ready  ## the CPU kernels and bindings under ASan, UBSan and TSan (about 25 minutes the first time)
	@PY=$(PY) sh scripts/sanitize.sh

test-cuda12: $(VENV)/.ready  ## check the CUDA sources with CUDA 12's headers and clang-19 (Debian; installs as root)
	@PYTHON=$(PY) sh scripts/check_cuda12.sh

lint: build  ## ruff, mypy, clang-format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror $(NATIVE_SOURCES)

format: build  ## format the code with ruff and clang-format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(NATIVE_SOURCES)

clean:  ## remove all build results, keep .venv
	rm -rf build dist wheelhouse detcore.egg-info detcore/_C*.so
