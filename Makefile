# make lab    set up on first use, then open copies of the lessons in JupyterLab
# make test   set up on first use, then run the tests
# make test-full   what takes longer: all lessons and views in the browser, 500 changes of each view, ten kills,
#                  the site, which runs the solutions
# make test-views   its part on the views: every control, 500 changes each, Notebook 7; 10 minutes
# make site   the course as pages to read without a network: site/_build/html/index.html
# TORCH=cpu with either installs torch without the CUDA libraries.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# what .venv was set up with counts until something else is asked for
TORCH ?= $(patsubst .venv/.ready-%,%,$(wildcard .venv/.ready-*))
READY := .venv/.ready$(if $(TORCH),-$(TORCH))

.PHONY: lab test test-full test-views check lint lock pairs site slides badges bench-loop bench-monitor bench-optim bench-views \
	bench-polar bench-ranks

lab: $(READY)
	@$(BIN)/orthoviz lab

# Two workers, with a thread each; the files of tests in turn, those of the browser first, which run lesson 00
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(READY)
	$(PYTEST) --nbmake --nbmake-timeout 900 tests notebooks/01_*.ipynb notebooks/04_*.ipynb

test-views: $(READY)
	$(BIN)/python -m pytest -m full -s tests/browser/test_views.py

test-full: $(READY)
	$(PYTEST) -m full tests

check: lint
	$(PYTEST) -p no:nbmake -m "not slow and not full" tests

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/mypy

lock: $(READY)
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --generate-hashes --upgrade \
		--no-header --output-file requirements.lock pyproject.toml

bench-loop: $(READY)
	$(BIN)/python -m benchmarks.loop

bench-monitor: $(READY)
	$(BIN)/python -m benchmarks.monitor

bench-optim: $(READY)
	$(BIN)/python -m benchmarks.optim

bench-views: $(READY)
	$(BIN)/python -m benchmarks.views

bench-ranks: $(READY)
	$(BIN)/python -m benchmarks.ranks

# Twenty minutes or so; peers that are not installed (pip install timm pytorch-optimizer) are left out
bench-polar: $(READY)
	$(BIN)/python -m benchmarks.polar

$(READY): pyproject.toml requirements.lock
	@test -n "$(PYTHON)" || { echo "orthoviz needs Python 3.11, 3.12 or 3.13, and found none of them. \
	Install one, or name it: make lab PYTHON=/path/to/python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	echo "orthoviz needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$("$(PYTHON)" --version 2>&1). \
	Install one, or name it: make lab PYTHON=/path/to/python3.12"; exit 1; }
	@test -x $(BIN)/pip || "$(PYTHON)" -m venv .venv || { rm -rf .venv; \
	echo "$(PYTHON) cannot make a virtual environment: its venv module is missing. \
	On Debian or Ubuntu: sudo apt install python3-venv"; exit 1; }
	@echo "Setting up .venv (a minute or so with a fast network) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		"uv==$$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)"
	@# Bytecode is made now, so that the first start is as fast as every other
ifeq ($(TORCH),)
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
else
	@# The locked versions; torch's hashes are those of the build with CUDA, so none are checked here.
	@$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --torch-backend $(TORCH) --no-verify-hashes \
		--constraints requirements.lock --requirements pyproject.toml --extra dev
endif
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

pairs: $(READY)
	$(BIN)/jupytext --to ipynb --update notebooks/*.py notebooks/solutions/*.py notebooks/lecturer/*.py

# Ten minutes or so; a notebook that ran before is run again only when its code or the package has changed
site: $(READY)
	@rm -rf site/_build/html
	$(BIN)/python -m sphinx --builder html --doctree-dir site/_build/doctrees --fresh-env \
		--nitpicky --fail-on-warning --keep-going site site/_build/html
	$(BIN)/orthoviz pages site/_build/html/moving
	@echo "Open site/_build/html/index.html"

# The lessons of the 90-minute class for a projector, without a network: site/_build/slides; five minutes or so
slides: $(READY)
	$(BIN)/python site/slides.py

# After the address in pyproject.toml has changed
badges: $(READY)
	$(BIN)/python site/badges.py
	@$(MAKE) --no-print-directory pairs
