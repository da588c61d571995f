# The verbs of this repository: `make help` lists them. Each does its own set-up, once, in .venv
# (tools/venv.sh); all it needs is Python 3.11 or newer, make and pip.

PY := .venv/bin/python
PDF ?=
ARGS ?=
JOBS ?= auto

# Desktops set a variable BROWSER of their own: only the one on make's command line counts.
ifeq ($(origin BROWSER),command line)
demo_options := --browser
# Python's webbrowser would take it for the name of a program.
unexport BROWSER
endif

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.PHONY: help demo sandbox example-fastapi example-aiohttp example-worker test bench bench-short soak soak-short check lint types generated exemptions generate format constraints clean
.PHONY: ready-demo ready-examples ready-test ready-dev

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ready-demo ## one job from PDF to signed PDF against the sandbox; PDF="a.pdf 'my file.pdf'" for documents of your own
	@$(PY) -m posten_signering.sandbox.demo $(demo_options) $(PDF)

sandbox: ready-demo ## start the local service to develop against
	@$(PY) -m posten_signering.sandbox $(ARGS)

example-fastapi: ready-examples ## a shop on FastAPI, with a sandbox that is started for it; ARGS="--port 8001"
	@$(PY) examples/run.py fastapi $(ARGS)

example-aiohttp: ready-examples ## the same shop on aiohttp
	@$(PY) examples/run.py aiohttp $(ARGS)

example-worker: ready-examples ## a worker that takes status changes from a queue, with a sandbox and a few jobs
	@$(PY) examples/run.py worker $(ARGS)

# The SDK has every branch covered, the sandbox 95 %; generated code is not measured.
test: ready-test ## all tests, with the bars for coverage; ARGS="tests/client/test_x.py -k name" for some, without
ifneq ($(strip $(ARGS)),)
	$(PY) -m pytest $(ARGS)
else
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -n $(JOBS) --maxprocesses 8
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report --include='src/posten_signering/*' --omit='src/posten_signering/sandbox/*' --fail-under=100
	$(PY) -m coverage report --include='src/posten_signering/sandbox/*' --fail-under=95
endif

bench: ready-test ## CPU, memory, event loop and connections beside their baselines; fails on a bar that is missed
	@PYTHONPATH=tests:tests/support $(PY) -m benchmarks $(ARGS)

bench-short: ready-test ## the same in under a minute, to look at
	@PYTHONPATH=tests:tests/support $(PY) -m benchmarks --short $(ARGS)

soak: ready-test ## processes killed, connections broken, calls cancelled: what is lost or done twice is counted
	@PYTHONPATH=tests:tests/support $(PY) -m soak $(ARGS)

soak-short: ready-test ## the same in under a minute
	@PYTHONPATH=tests:tests/support $(PY) -m soak --short $(ARGS)

check: lint types generated exemptions ## ruff, mypy, pyright, generated code up to date, exemptions counted

lint: ready-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: ready-dev
	$(PY) -m mypy
	$(PY) -m pyright

generated: ready-dev
	$(PY) tools/generate.py --check

exemptions: ready-dev
	$(PY) tools/exemptions.py

generate: ready-dev ## make generated/posten_signering_xml from xsd/direct.xsd
	$(PY) tools/generate.py

format: ready-dev ## let ruff lay out the code and mend what it can
	$(PY) -m ruff check --fix-only --quiet .
	$(PY) -m ruff format .

constraints: ready-dev ## renew the pins in constraints.txt
	$(PY) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --group dev \
	  --no-header --no-emit-index-url --output-file constraints.txt pyproject.toml

clean: ## take away all that make made, .venv too
	rm -rf .venv .nox dist demo-output test-output .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src generated tests tools examples -name __pycache__ -type d -prune -exec rm -rf {} +

ready-demo ready-examples ready-test ready-dev: ready-%:
	@sh tools/venv.sh $*
