# Each target sets up what it needs, on a fresh machine too: a virtual environment in .venv, and everything in it.
#
#   make venv          the virtual environment alone
#   make conformance   judge the backends on this machine, then draw what ran
#   make test          the tests of attnconf itself
#   make fuzz          20,000 mutated inputs to every reader and command, of which CI runs 1,000; INPUTS and SEED can be set
#   make drift         hold the shipped policies against sglang and vLLM, installed without their dependencies in
#                      .venv-sglang and .venv-vllm: sglang imports a vLLM that is there, and vLLM knows one platform a
#                      process
#   make engines       judge sglang's and vLLM's own attention backends, in the same environments
#   make readings      ask transformers' own code what each of its models' layers do, in .venv-transformers, and write
#                      ci/readings/READINGS.md, which says what attnconf reads of the same configurations (half an hour)
#   make trtllm-gen    hold the answers about SM100's kernels against FlashInfer's own lists and its selector, compiled by
#                      nvcc (NVCC); without a GPU. It downloads 2 GB once, into build/trtllm_gen
#   make backtest      fetch the releases of ci/backtest/entries.toml without their dependencies, ask the suite of both
#                      sides of every bug that runs on a CPU, and write the page and picture (some 20 minutes on 2 cores)
#   make capture       serve a tiny Gemma 4 by transformers' continuous batching on a CPU, capture what it asks of its
#                      layers, and judge it
#   make machine       play 10,000 events of serving over our memory, sglang's, transformers' and vLLM's
#   make check         everything that CI runs: lint, types, imports, tests, the smoke profile, the wheel
#
# PYTHON, VENV, WORKERS, PROFILE, POLICY and OUT can be set: make conformance PROFILE=gate WORKERS=4

# A run has a process for each core, and what it multiplies is tiny: the threads of NumPy, in which Triton's interpreter
# multiplies, would wait for each other actively.
export OMP_NUM_THREADS ?= 1

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= auto
PROFILE ?= smoke
POLICY ?= sglang-gemma4
OUT ?= attnconf-out
INPUTS ?= 20000
SEED ?= 1
NVCC ?= nvcc
STEPS ?= 10000

BIN := $(VENV)/bin
READY := $(VENV)/.attnconf-ready
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,--constraint ci/constraints-cpu.txt)
ENGINE_FAMILIES := "decode or extend or mixed or verify or windows or shared_kv or hybrid_pools"
BY_CONTRACT := $(if $(shell command -v nvidia-smi),0,10)
PARALLEL := -n $(WORKERS) --maxprocesses 8

.PHONY: help conformance test fuzz trtllm-gen backtest capture drift drift-sglang drift-vllm engines engines-sglang engines-vllm machine readings check venv clean

help:
	@sed -n 's/^#   //p' Makefile

conformance: $(READY)
	@rm -f $(OUT)/receipt.json $(OUT)/matrix.png $(OUT)/report.html
	@$(BIN)/python -m pytest -p attnconf --pyargs attnconf.suite $(PARALLEL) --attnconf-profile=$(PROFILE) \
		--attnconf-policy $(POLICY) --attnconf-receipt $(OUT)/receipt.json --attnconf-failures $(OUT)/failures; \
	status=$$?; \
	if [ ! -f $(OUT)/receipt.json ]; then \
		echo 'no receipt was written, so nothing is proven' >&2; \
		[ $$status -ne 0 ] || status=1; \
	else \
		$(BIN)/attnconf report $(OUT)/receipt.json --html $(OUT)/report.html >/dev/null || exit 1; \
		echo 'report: $(OUT)/report.html'; \
		printf 'picture: ' && $(BIN)/attnconf picture $(OUT)/receipt.json -o $(OUT)/matrix.png || [ $$status -ne 0 ] || status=1; \
	fi; \
	exit $$status

# A worker takes neighbours, which share what a module sets up, and takes over the other's when it has none left.
test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL) --dist worksteal --durations 15 --durations-min 1

fuzz: $(READY)
	$(BIN)/python -m conformance.tests.support.fuzz $(INPUTS) $(SEED)

trtllm-gen: $(READY)
	$(BIN)/python -m ci.trtllm_gen lists
	$(BIN)/python -m ci.trtllm_gen selectors --nvcc $(NVCC) --seed $(SEED)

BACKTEST := fixtures/evidence/backtest

backtest: $(READY)
	$(BIN)/python -m ci.backtest prepare
	$(BIN)/python -m ci.backtest run --jobs 2 --json $(BACKTEST)/result.json; \
	status=$$?; \
	$(BIN)/python -m ci.backtest show --page $(BACKTEST)/README.md --picture $(BACKTEST)/backtest.png && exit $$status

drift: drift-sglang drift-vllm

drift-sglang: .venv-sglang/.ready
	.venv-sglang/bin/python -m pytest ci/drift/tests --ignore ci/drift/tests/test_vllm.py
	.venv-sglang/bin/attnconf policy drift --engine sglang

drift-vllm: .venv-vllm/.ready
	.venv-vllm/bin/python -m pytest ci/drift/tests/test_vllm.py
	.venv-vllm/bin/attnconf policy drift --engine vllm

engines: engines-sglang engines-vllm

# Our scheduler over our own memory, and over the engines' own managers; every batch is judged on the reference.
machine: $(READY) .venv-sglang/.ready .venv-vllm/.ready
	$(BIN)/attnconf machine --steps $(STEPS) --model gemma4-e2b
	for memory in sglang sglang-swa sglang-token transformers; do \
		.venv-sglang/bin/attnconf machine --memory $$memory --steps $(STEPS) || exit 1; \
	done
	.venv-vllm/bin/attnconf machine --memory vllm --steps $(STEPS)

CAPTURED := build/capture-transformers

capture: .venv-transformers/.ready
	@rm -rf $(CAPTURED)
	.venv-transformers/bin/python -m pip install --quiet --constraint ci/constraints-cpu.txt --editable .
	.venv-transformers/bin/python ci/examples/capture_transformers.py --out $(CAPTURED)

# Without a GPU sglang:trtllm_mha is read by its contract, which proves no kernel: a run that names it ends with 10.
engines-sglang: .venv-sglang/.ready
	.venv-sglang/bin/python -m pytest ci/engines/tests --ignore-glob "*/test_vllm*.py"
	.venv-sglang/bin/python -m pytest -p attnconf -p ci.engines.widened --pyargs attnconf.suite -n 2 \
		--attnconf-profile=smoke --attnconf-backend "sglang:triton[window+1]" -k $(ENGINE_FAMILIES) \
		--attnconf-receipt $(OUT)/engines.json --attnconf-failures $(OUT)/engines-failures
	.venv-sglang/bin/python -m pytest -p attnconf --pyargs attnconf.suite -n 2 \
		--attnconf-profile=smoke --attnconf-backend sglang:trtllm_mha -k $(ENGINE_FAMILIES) \
		--attnconf-receipt $(OUT)/engines-contract.json --attnconf-failures $(OUT)/engines-failures; \
	status=$$?; [ $$status -eq $(BY_CONTRACT) ] || { echo "exit status $$status, and not $(BY_CONTRACT)"; exit 1; }

engines-vllm: .venv-vllm/.ready
	.venv-vllm/bin/python -m pytest ci/engines/tests/test_vllm*.py ci/engines/tests/test_memory.py \
		ci/engines/tests/test_capture.py

.venv-sglang/.ready: pyproject.toml ci/constraints-cpu.txt ci/requirements-sglang.txt
	$(PYTHON) -m venv .venv-sglang
	.venv-sglang/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-sglang/bin/python -m pip install --quiet $(CONSTRAINTS) --editable ".[triton,flashinfer]" --group dev \
		--requirement ci/requirements-sglang.txt
	.venv-sglang/bin/python -m pip install --quiet --no-deps sglang==0.5.23
	@touch $@

.venv-vllm/.ready: pyproject.toml ci/constraints-cpu.txt ci/requirements-vllm.txt
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-vllm/bin/python -m pip install --quiet $(CONSTRAINTS) --editable ".[triton]" --group dev \
		--requirement ci/requirements-vllm.txt
	.venv-vllm/bin/python -m pip install --quiet --no-deps vllm==0.33.0
	@touch $@

readings: $(READY) .venv-transformers/.ready
	.venv-transformers/bin/python -m ci.readings.record ci/readings/records.jsonl
	$(BIN)/python -m ci.readings.table

.venv-transformers/.ready: ci/constraints-cpu.txt ci/requirements-transformers.txt
	$(PYTHON) -m venv .venv-transformers
	.venv-transformers/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-transformers/bin/python -m pip install --quiet --constraint ci/constraints-cpu.txt \
		--requirement ci/requirements-transformers.txt
	@touch $@

check: $(READY)
	VENV=$(VENV) ci/check $(PARTS)

venv: $(READY)

# Of the 15,000 modules that are installed most are never imported: Python compiles the others when they are.
$(READY): pyproject.toml ci/constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --no-compile $(CONSTRAINTS) --editable ".[all]" --group dev
	@touch $@

clean:
	rm -rf $(VENV) .venv-sglang .venv-vllm .venv-transformers $(OUT) build dist
