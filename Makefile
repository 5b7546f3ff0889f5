# make demo | test | test-all | lint | format | coverage | docs | compare: each installs what it needs into .venv first, and only then.
# make gpu: everything that needs a GPU, with the PyTorch of PYTHON | make install: that only | make hooks: every check before a commit | make dist: the files of a release | make clean
# Another interpreter: make PYTHON=python3.12 test
# Another PyTorch, in an environment of its own: make STACK=oldest test, make STACK=newest test

PYTHON ?= python3
STACK ?= tested
ifeq ($(filter tested oldest newest,$(STACK)),)
$(error STACK must be tested, oldest or newest, got '$(STACK)')
endif
export TAG
VENV := .venv$(if $(filter-out tested,$(STACK)),-$(STACK))
PYTHON_VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
# the pinned versions need Python 3.11; on 3.10 pip chooses within the ranges
ifeq ($(PYTHON_VERSION) $(STACK),3.10 tested)
REQUIREMENTS := -r requirements/runtime.txt -r requirements/tests.txt
else
REQUIREMENTS := -r requirements/$(STACK).txt
endif
# a stamp exists only after a complete installation of exactly these requirements for this Python
STAMP := $(VENV)/installed-$(shell { cat requirements/*.txt setup.py; echo "$(PYTHON_VERSION)"; } | cksum | tr -d ' ')

DIGITS_TEACHER := work_dirs/res14_digits/epoch_60.pth

.PHONY: install demo test test-slow test-all test-engines lint format coverage hooks docs dist check-tag compare gpu clean

install: $(STAMP)

demo: $(STAMP)
	$(VENV)/bin/python tools/demo.py

# a crashed worker is not replaced: by loadfile, its successor may be left without work, and the run waits for ever
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

# every part once, in minutes
test: $(STAMP)
	$(PYTEST) -m 'not slow'

# every option, page and fault: the rest
test-slow: $(STAMP)
	$(PYTEST) -m slow

test-all: test test-slow

# the engines of a grid for real; the pins have neither Ray nor submitit, so this changes the environment
test-engines: $(STAMP)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -q -r requirements/ray.txt -r requirements/slurm.txt -r requirements/tune.txt
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q tests/runs

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(STAMP)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

# the lines of the package that the fast tier runs, also in the processes that tests start; another part: make coverage TESTS='tests/losses'
TESTS := -m 'not slow'
coverage: $(STAMP)
	$(VENV)/bin/coverage erase
	OMP_NUM_THREADS=1 $(VENV)/bin/coverage run -m pytest -q $(TESTS)
	$(VENV)/bin/coverage combine -q
	$(VENV)/bin/coverage report

# what .pre-commit-config.yaml lists, on every file; before each commit: .venv-hooks/bin/pre-commit install
hooks:
	$(PYTHON) -m venv .venv-hooks
	.venv-hooks/bin/python -m pip install --disable-pip-version-check pre-commit==4.7.0
	.venv-hooks/bin/pre-commit run --all-files

docs: $(STAMP)
	$(VENV)/bin/python -m sphinx -W --keep-going -q docs docs/_build
	@echo 'The site: docs/_build/index.html'

# the source distribution and the wheel of a release, in dist
dist:
	$(PYTHON) -m venv .venv-dist
	.venv-dist/bin/python -m pip install --disable-pip-version-check build==1.6.1 twine==7.0.0
	rm -rf dist
	.venv-dist/bin/python -m build
	.venv-dist/bin/twine check --strict dist/*

# the tag of a release, such as TAG=v0.2.0, names the version of the package, of the citation and of a dated entry of the changelog
check-tag:
	@version="$${TAG#v}"; fail() { echo "error: $$TAG is to be released, and $$1 has no $$2" >&2; exit 1; }; \
	grep -qxF "__version__ = '$$version'" r2kd_mm/version.py || fail r2kd_mm/version.py "__version__ = '$$version'"; \
	grep -qxF "version: $$version" CITATION.cff || fail CITATION.cff "version: $$version"; \
	grep -E '^## [^ ]+ - [0-9]{4}-[0-9]{2}-[0-9]{2}$$' CHANGELOG.md | grep -qF "## $$version - " || fail CHANGELOG.md "heading ## $$version - <date>"

# every method on the digits, 5 seeds: about half an hour on two cores
compare: $(STAMP) $(DIGITS_TEACHER)
	$(VENV)/bin/python tools/compare.py configs/supervised/res6_digits.py configs/*/*_res14_res6_digits.py \
		--seeds 0 1 2 3 4 --baseline kd_res14_res6_digits --jobs 2 --out work_dirs/compare

# everything that needs a GPU, with the PyTorch that PYTHON has; installs nothing
DEVICE ?= cuda
gpu:
	PYTHONPATH=. $(PYTHON) benchmarks/gpu/report.py --device $(DEVICE)

# made once: a teacher that is trained again would have every run done again
$(DIGITS_TEACHER): | $(STAMP)
	$(VENV)/bin/python tools/train.py configs/supervised/res14_digits.py --resume

clean:
	rm -rf .venv .venv-oldest .venv-newest .venv-dist .venv-hooks .coverage .coverage.* build dist docs/_build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(STAMP):
	@case "$(PYTHON_VERSION)" in \
	3.10|3.11|3.12|3.13) ;; \
	'') echo 'error: $(PYTHON) was not found; install Python 3.11, or name yours: make PYTHON=/path/to/python3.11' >&2; exit 1 ;; \
	*) echo 'error: $(PYTHON) is Python $(PYTHON_VERSION), and 3.10 to 3.13 are supported; name another: make PYTHON=python3.11' >&2; exit 1 ;; \
	esac
	@echo 'Installing into $(VENV); the first time this downloads PyTorch and takes some minutes.'
	@rm -f $(VENV)/installed-*
	@# an environment of another Python version cannot be reused
	@test -x $(VENV)/bin/python$(PYTHON_VERSION) || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check $(REQUIREMENTS)
	@# mim: its own requirements are left out, see requirements/mim.txt
	$(VENV)/bin/python -m pip install --disable-pip-version-check --no-deps openmim==0.3.9
	$(VENV)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
