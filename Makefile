# make suite   set up and run the main job: how much does AlexNet leak, and what does hiding it cost?
# make test    set up and run the project's own tests
# make docs    set up and build the pages of docs/ and one for each plugin: build/docs/index.html
PYTHON ?= python3
VENV   ?= .venv
WORKERS ?= 2

BIN   := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: suite test docs lint clean

suite: $(READY)
	$(BIN)/pytest suite -k alexnet

test: $(READY)
	$(BIN)/pytest tests -n $(WORKERS) --dist worksteal

docs: $(READY)
	$(BIN)/python -m sphinx -W -n --keep-going -q docs build/docs
	@echo "build/docs/index.html"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format -n -Werror $$(git ls-files '*.c' '*.h')
	$(BIN)/python -m device

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "leakboard needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "Python cannot make virtual environments here: apt-get install python3-venv" >&2; exit 1; }
	@command -v $${CC:-cc} >/dev/null \
		|| { echo "no C compiler: apt-get install gcc libc6-dev" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
