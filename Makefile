# Each target sets up what it needs, on a fresh machine too: a virtual environment in .venv, and everything in it.
#
#   make conformance   judge the backends on this machine, then draw what ran
#   make test          the tests of attnconf itself
#   make drift         hold the shipped policy against sglang, installed without its dependencies in .venv-drift
#   make check         everything that CI runs: lint, types, imports, tests, the smoke profile, the wheel
#
# PYTHON, VENV, WORKERS, PROFILE, POLICY and OUT can be set: make conformance PROFILE=gate WORKERS=4

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= auto
PROFILE ?= smoke
POLICY ?= sglang-gemma4
OUT ?= attnconf-out

BIN := $(VENV)/bin
READY := $(VENV)/.attnconf-ready
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,--constraint ci/constraints-cpu.txt)
PARALLEL := -n $(WORKERS) --maxprocesses 8

.PHONY: help conformance test drift check venv clean

help:
	@sed -n 's/^#   //p' Makefile

conformance: $(READY)
	@rm -f $(OUT)/receipt.json $(OUT)/matrix.png $(OUT)/report.html
	@$(BIN)/python -m pytest -p attnconf --pyargs attnconf.suite $(PARALLEL) --attnconf-profile=$(PROFILE) \
		--attnconf-policy $(POLICY) --attnconf-receipt $(OUT)/receipt.json --attnconf-failures $(OUT)/failures; \
	status=$$?; \
	if [ -f $(OUT)/receipt.json ]; then \
		printf 'picture: ' && $(BIN)/attnconf picture $(OUT)/receipt.json -o $(OUT)/matrix.png || exit 1; \
		$(BIN)/attnconf report $(OUT)/receipt.json --html $(OUT)/report.html >/dev/null || exit 1; \
		echo 'report: $(OUT)/report.html'; \
	fi; \
	exit $$status

test: $(READY)
	$(BIN)/python -m pytest $(PARALLEL)

drift: .venv-drift/.ready
	.venv-drift/bin/python -m pytest ci/drift/tests
	.venv-drift/bin/attnconf policy drift --engine sglang

.venv-drift/.ready: pyproject.toml ci/constraints-cpu.txt ci/requirements-sglang.txt
	$(PYTHON) -m venv .venv-drift
	.venv-drift/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-drift/bin/python -m pip install --quiet $(CONSTRAINTS) --editable ".[triton]" --group dev \
		--requirement ci/requirements-sglang.txt
	.venv-drift/bin/python -m pip install --quiet --no-deps sglang==0.5.23
	@touch $@

check: $(READY)
	VENV=$(VENV) ci/check $(PARTS)

venv: $(READY)

$(READY): pyproject.toml ci/constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet $(CONSTRAINTS) --editable ".[all]" --group dev
	@touch $@

clean:
	rm -rf $(VENV) .venv-drift $(OUT) build dist
