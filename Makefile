# Everything sets itself up from nothing: `make demo` and `make test` are the two commands a newcomer needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup demo test test-fast coverage soak dev bench-eval field map reference lint model clean

setup: $(VENV)/.installed model

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The embedded model: fetched and converted once into the user's cache, shared by all checkouts.
model: $(VENV)/.installed
	$(BIN)/python -m gradsentry_lib.scoring.embedded

demo: setup
	$(BIN)/python -m gradsentry_assets.demo

test: setup lint docs
	$(BIN)/python -m pytest -n 2 --dist loadgroup --durations=20

# What to run while one works: no embedded model, no whole graphs, no browser, nothing that takes seconds. All of it is
# `make test`.
test-fast: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 -m 'not soak and not real and not graph and not slow and not browser' --durations=20 $(ARGS)

# Which branches the tests take, with the lines that none takes.
coverage: setup
	$(BIN)/python -m pytest -n 2 --dist loadgroup --cov=gradsentry_lib --cov=gradsentry_assets --cov-branch \
		--cov-report=term-missing:skip-covered $(ARGS)

# The long ones, with a table of what was tried and what held. SOAK_MINUTES: how long eight writers go on (10).
soak: setup
	-$(BIN)/pip install --quiet --constraint constraints.txt pip-audit
	$(BIN)/python -m pytest -m soak tests/soak tests/packaging $(ARGS)

# Scans on a Ray cluster of two nodes on this machine, with workers, a node and the scan itself killed. SOAK_KILLS: how many.
.PHONY: soak-ray
soak-ray: setup
	$(BIN)/python -m pytest -m soak tests/soak/test_soak_ray.py $(ARGS)

# The UI, on the demo's store and history unless the environment names others.
dev: export DAGSTER_HOME ?= $(CURDIR)/.dagster_home
dev: setup
	mkdir -p "$$DAGSTER_HOME"
	test -e "$$DAGSTER_HOME/dagster.yaml" || cp dagster.yaml "$$DAGSTER_HOME"
	$(BIN)/dagster dev -w workspace.yaml

# Every table and figure of docs/evaluation.md again; the README says how long that takes.
bench-eval: setup
	$(BIN)/python -m benchmarks.evaluation $(ARGS)
	$(BIN)/python -m benchmarks.summary

# A store with batches in every state, made without a model, and the pages to review them: open the printed link.
REVIEW ?= .review
.PHONY: review
review: setup
	$(BIN)/python -m tests.review.demo $(REVIEW)
	GRADSENTRY_HOME=$(REVIEW) $(BIN)/gradsentry review --by $${USER:-me} $(ARGS)

# What happens to files and models of the kinds that bug reports are about, beside what is right.
FIELD ?= ../shared/field
field: setup
	$(BIN)/python -m benchmarks.field $(FIELD) $(ARGS)

# The structure as facts: rooms, arrows, none upward, and one row's way through a scan.
map: setup
	$(BIN)/python -m benchmarks.structure $(ARGS)

# The tables of options and of errors, from the code.
reference: $(VENV)/.installed
	$(BIN)/python -m gradsentry_lib.cli.reference docs

# The examples, each in a folder of its own below .examples, with the embedded model.
.PHONY: examples
examples: setup
	$(BIN)/python -m examples.run $(ARGS)

# The docs as a site, in site/. Links between pages, to headings and to files that lead nowhere are errors.
.PHONY: docs
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Wheel and sdist, in dist/. Tested by tests/packaging; `make soak` installs them in empty environments.
.PHONY: dist
dist: $(VENV)/.installed
	rm -rf dist
	$(BIN)/python -m build --outdir dist

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python .ci/words.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

# The declared test on labelled cases, both halves. Scores are made once, into ../scored.
.PHONY: bench-detection
bench-detection: setup
	$(BIN)/python -m benchmarks.scored
	$(BIN)/python -m benchmarks.declared --ask $(ARGS)

# What a scan of twenty rows costs, beside the bare model; writes its section of benchmarks/RESULTS.md.
.PHONY: bench-startup
bench-startup: setup
	$(BIN)/python -m benchmarks.startup --write $(ARGS)

# Milliseconds a sample beside the paper's algorithm and the bare transformer; what each step costs from 1,000 to a million
# rows; what a sample costs on a graphics card, where there is one; how fast a page opens. Each writes its section of
# benchmarks/RESULTS.md.
.PHONY: bench bench-scale bench-gpu bench-review
bench: setup
	$(BIN)/python -m benchmarks.speed --write $(ARGS)
	$(BIN)/python -m benchmarks.loading --write
bench-scale: setup
	$(BIN)/python -m benchmarks.scale --write $(ARGS)
bench-gpu: setup
	$(BIN)/python -m benchmarks.gpu --write $(ARGS)
bench-review: setup
	$(BIN)/python -m benchmarks.review --write
