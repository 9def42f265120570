# `make bench` measures, `make track` has asv keep it for this commit, `make check` is for every save, `make test` runs
# all tests, `make docs` builds the documentation. All make .venv if it is not there.
# OPTIONS go to `copycost run` and to `copycost track`: make bench OPTIONS='--recipe tf'
PYTHON ?= python3
BIN := .venv/bin

.PHONY: bench track check test lint docs fleet-demo browser clean

bench: .venv/measures
	@if [ -e reports/latest ]; then mv reports/latest reports/until-$$(date +%Y%m%d-%H%M%S); fi
	@$(BIN)/copycost run --profile quick --out reports/latest $(OPTIONS); status=$$?; \
	  $(BIN)/copycost report reports/latest --html reports/latest && exit $$status

track: .venv/measures
	@$(BIN)/copycost track $(OPTIONS)

check: lint
	$(BIN)/python -m pytest --quiet -n 2 -m "not slow" tests/unit

test: .venv/tests .venv/triton browser lint docs
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: .venv/tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/tests
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html docs build/docs

# A fleet of two workers on this machine: docs/how-to/fleet.md.
fleet-demo: .venv/tests
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	  PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH="$(CURDIR)" sh docs/examples/fleet/demo.sh \
	  "$$folder/demo" "$(CURDIR)/docs/examples/fleet/local.toml" $(OPTIONS)

# An editable install: a changed line is measured, not the copy of yesterday's.
.venv/measures: EXTRAS := tensorflow
.venv/tests: EXTRAS := tensorflow,fast,torch,jax,libraries,peers,dev
.venv/measures .venv/tests: pyproject.toml suite/copycost_meter/pyproject.toml suite/asv_bench_copycost/pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "copycost needs Python 3.11 to 3.13; this is %d.%d. Name another: make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable suite/copycost_meter --editable suite/asv_bench_copycost \
	  --editable '.[$(EXTRAS)]'
	@touch $@

# Triton and TensorFlow cannot be loaded into one process, and PyTorch loads Triton wherever it finds it. The test of its
# kernel alone is given this folder.
.venv/triton: .venv/tests
	$(BIN)/python -m pip install --quiet --upgrade --no-deps --target $@ 'triton>=3.4,<4'
	@touch $@

# The published pages are tested in a browser, with scripts that npm has; where apt can install these, it does.
browser:
	@missing=; \
	  command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing="$$missing chromium"; \
	  command -v npm >/dev/null || missing="$$missing npm"; \
	  if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	  elif [ -n "$$missing" ]; then echo "Install$$missing: the tests of the published pages need them." >&2; fi

clean:
	rm -rf .venv build dist *.egg-info
