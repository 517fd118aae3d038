# GatewayFS: every way to build, try and prove it. `make help` lists them.
#
# `make demo` and `make test` work on a fresh Debian or Ubuntu machine with python3 >= 3.11, make and root; both call
# `make setup` first, which is a no-op of well under a second when everything is there.

SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
# PYTEST_ARGS="-k rename -x" narrows any of the test targets.
PYTEST := $(PY) -m pytest $(PYTEST_ARGS)
# Test files of `make test` run by so many processes side by side; JOBS=0 runs them in one, for a debugger.
JOBS ?= 2

.PHONY: help setup demo test check test-e2e hunt bench clean install uninstall

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\): .*## \(.*\)/  make \1\t\2/p; s/^\([a-z0-9-]*\):  *## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | sort -u | expand -t 20

setup:  ## system packages and .venv, only what is missing
	@scripts/setup.sh

demo: setup  ## a bucket on a local S3 server, mounted: look around, Ctrl-C ends it
	@$(PY) scripts/demo.py

test: setup  ## every test that needs no production S3 server
	@scripts/test-tools.sh
	$(PYTEST) -n $(JOBS) --dist loadfile -m "not e2e" tests

check: setup  ## before every commit: format, lint, types, tidy and unit tests, under a minute
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PYTEST) -q tests/tidy tests/unit

test-e2e: setup  ## contract, crash and application tests against a production S3 server (Ceph), started here
	@scripts/s3-server.sh run $(PYTEST) -m e2e tests

EXAMPLES ?= 5000
hunt: setup  ## random programs against the model, EXAMPLES=5000 of each kind, others every time: some minutes
	GATEWAYFS_SIM_EXAMPLES=$(EXAMPLES) $(PYTEST) --timeout=0 -o faulthandler_timeout=0 tests/sim/test_model.py

bench: setup  ## the figures in bench/, measured on this machine
	$(PY) -m bench

install:  ## program and systemd units on this machine (PREFIX=/usr/local; DESTDIR= for packagers)
	@scripts/install.sh install

uninstall:  ## remove what install put there; shares, caches and logs stay
	@scripts/install.sh uninstall

clean:  ## remove what make made in this directory (.venv too)
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
