# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer.
# The first interpreter that runs and is new enough; a name alone may be a shim that runs nothing.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint bench clean

demo: $(READY)
	$(BIN)/hardneg demo

test: lint
	$(BIN)/python -P -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# make bench [DEVICE=cuda] [ONLY="rotate-step-own propagation"] [OPTIONS=--quick]
DEVICE ?= cpu
bench: $(READY)
	$(BIN)/python -P benchmarks/run.py --device $(DEVICE) $(if $(ONLY),--only $(ONLY)) $(OPTIONS)

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "hardneg needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@mkdir -p .venv/types && ln -sfn ../.. .venv/types/hardneg
	@touch $@

clean:
	rm -rf benchmarks/.peers benchmarks/.work .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
