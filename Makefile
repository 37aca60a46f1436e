# make demo | flow | run | test | bench | lint | check | table - the first call builds .venv by itself.
# On a new machine: git, make and Python >= 3.11, nothing else.

PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export GX_ANALYTICS_ENABLED := false

.PHONY: demo flow run check table test lint bench lock

demo: .venv/made  ## the whole pipeline on drawn tissue
	@python -m stages demo
	@dvc repro
	@python -m stages.compare.table

flow: .venv/made  ## the same under Prefect: independent stages side by side, a verdict for each
	@python -m stages demo
	@stroma repro
	@python -m stages.compare.table

run: check  ## the whole pipeline on the profile that params.yaml names
	@dvc repro
	@python -m stages.compare.table

check: .venv/made  ## all of params.yaml, in seconds
	@python -m stages

table: .venv/made  ## print the comparison table of the last run
	@python -m stages.compare.table

lint: .venv/made
	@ruff check .
	@ruff format --check .

test: lint  ## ruff, unit tests, and the demo pipeline end to end in a temporary clone
	@python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

bench: .venv/made  ## speed and memory against the peers, at full scale (about half an hour)
	@python -m benchmarks.ingest
	@python -m benchmarks.batches
	@python -m benchmarks.noop
	@python -m benchmarks.frozen
	@python -m benchmarks.training
	@python -m benchmarks.flow

.venv/made: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python >= 3.11 is needed, this is " + sys.version)'
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "Installing the pinned packages into .venv (once)"
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8'
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes --compile-bytecode -r requirements.lock
	@.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --offline --editable .
	@touch $@

lock:  ## pin again after a change of pyproject.toml
	@.venv/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
		--group train --group tune --group stages --group run --group flows --group dev pyproject.toml -o requirements.lock
