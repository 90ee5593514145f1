# make book      builds the site from the chapters, the package and the data
# make test      checks everything: style, types, package, book, site
# make coverage  lists the lines and branches of the package that its tests do not reach
# make mutants   changes the steps of EM in every small way, and lists what no test notices
# make fuzz      looks for faults of the package in random cases, new ones each time, for some minutes
# make bench     times the package beside its peers and counts the passes of its accelerations, and
#                writes the tables of the chapters about these
# make dist      builds wheel and source distribution into dist/, and runs the package's tests on what
#                they install; NUMPY=lowest, INSTALL=sdist and PYTHON_TO_TEST=python3.12 choose
# make twice     builds the book two times from the last commit, and compares what came out
# make pages     loads every page of the built site as a telephone does, and judges it by Lighthouse
# make pins      chooses the newest versions of what requirements.in names, and writes requirements.txt
# make clean     deletes what these have made, the virtual environment aside
#
# Each does its own set-up: a virtual environment in .venv with the pinned requirements.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: book test coverage mutants fuzz bench pages twice dist pins clean
.DELETE_ON_ERROR:

book: $(READY)
	$(BIN)/jupyter-book build .
	@echo
	@echo "The site:           file://$(CURDIR)/_build/html/index.html"
	@echo "With its search:    $(BIN)/python -m http.server --directory _build/html 8000"
	@echo "                    and then http://localhost:8000/"

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/jupyter-book build .
	$(BIN)/pytest

# interrupts at any moment would interrupt what measures, too
coverage: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest gmm tests --ignore-glob "tests/*/*" \
		--deselect tests/test_checkpoint.py::test_interrupts_at_any_moment_do_no_harm
	$(BIN)/coverage combine
	$(BIN)/coverage report

mutants: $(READY)
	$(BIN)/python tests/mutation/mutants.py

bench: $(READY)
	$(BIN)/python tests/benchmarks/bench.py book/speed/benchmarks.csv
	$(BIN)/python tests/benchmarks/acceleration.py data/acceleration_problems.csv

dist: $(READY)
	$(BIN)/python tests/packaging/dist.py $(addprefix --numpy=,$(NUMPY)) $(addprefix --install=,$(INSTALL)) \
		$(addprefix --python=,$(PYTHON_TO_TEST))

twice: $(READY)
	$(BIN)/python tests/packaging/twice.py

pages: $(READY)
	$(BIN)/python tests/benchmarks/pages.py tests/benchmarks/pages.csv

pins: $(READY)
	$(BIN)/uv pip compile requirements.in --upgrade --universal --python-version 3.11.5 --generate-hashes \
		--no-annotate --no-strip-extras --quiet --custom-compile-command "make pins" --output-file requirements.txt

fuzz: $(READY)
	$(BIN)/pytest tests/fuzz --hypothesis-profile=fuzz

clean:
	rm -rf _build build dist *.egg-info book/node_modules mutants .coverage* .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)
