# `make help` lists the targets. Each target first installs what it needs into .venv
# (tools/venv.sh), which takes time only once. Requirements: Python 3.11 or newer, make and pip.

PY := .venv/bin/python
PDF ?=
ARGS ?=
JOBS ?= auto

# Many desktops set an environment variable BROWSER, so only a BROWSER on make's command line counts.
ifeq ($(origin BROWSER),command line)
demo_options := --browser
# Python's webbrowser module would read its value as the name of a program.
unexport BROWSER
endif

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# Tests start many processes. Each would compile the package and the tests again if no bytecode were kept.
unexport PYTHONDONTWRITEBYTECODE

# Every public name has a full type. Pyright finds the package through the `python` on PATH, and only there.
define verify_types
report=$$(PATH="$(CURDIR)/.venv/bin:$$PATH" $(PY) -m pyright --verifytypes posten_signering --ignoreexternal) \
  || { echo "$$report"; exit 1; }; echo "$$report" | grep score
endef

.DEFAULT_GOAL := help
.PHONY: help docs docs-serve dist sbom demo sandbox example-fastapi example-aiohttp example-django example-worker example-celery example-fleet example-script test bench bench-short soak soak-short check lint types generated exemptions interface api generate format constraints clean
.PHONY: ready-demo ready-examples ready-test ready-bench ready-dev

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ready-demo ## run one job from PDF to signed PDF against the sandbox; PDF="a.pdf 'my file.pdf'" for your own documents
	@$(PY) -m posten_signering.sandbox.demo $(demo_options) $(PDF)

sandbox: ready-demo ## start the sandbox, the local service to develop against
	@$(PY) -m posten_signering.sandbox $(ARGS)

example-fastapi: ready-examples ## run a shop on FastAPI together with a sandbox; ARGS="--port 8001"
	@$(PY) examples/run.py fastapi $(ARGS)

example-aiohttp: ready-examples ## run the same shop on aiohttp
	@$(PY) examples/run.py aiohttp $(ARGS)

example-django: ready-examples ## run the same shop on Django under gunicorn, a WSGI server
	@$(PY) examples/run.py django $(ARGS)

example-worker: ready-examples ## run a worker that polls a queue, together with a sandbox and a few jobs
	@$(PY) examples/run.py worker $(ARGS)

.PHONY: example-worker-in-fastapi
example-worker-in-fastapi: ready-examples ## run a web app with a worker in its lifespan, together with a sandbox and a few jobs
	@$(PY) examples/run.py worker-in-fastapi $(ARGS)

example-celery: ready-examples ## run a Celery worker that creates and completes jobs; needs redis-server
	@$(PY) examples/run.py celery $(ARGS)

example-fleet: ready-examples ## run a web app and three workers with PostgreSQL and Redis; needs postgresql and redis-server
	@PYTHONPATH=examples $(PY) -m fleet.start $(ARGS)

example-script: ready-examples ## run a script that creates one job and waits until you sign it in a browser
	@$(PY) examples/run.py script $(ARGS)

# The required branch coverage is 100 % for the SDK and 95 % for the sandbox. Generated code is not measured.
test: ready-test ## run all tests and check coverage; ARGS="tests/client/test_x.py -k name" runs some, without coverage
ifneq ($(strip $(ARGS)),)
	$(PY) -m pytest $(ARGS)
else
	rm -rf test-output/screenshots
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest -n $(JOBS) --maxprocesses 8
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report --include='src/posten_signering/*' --omit='src/posten_signering/sandbox/*' --fail-under=100
	$(PY) -m coverage report --include='src/posten_signering/sandbox/*' --fail-under=95
	@echo "The browser tests have saved what the pages look like in test-output/screenshots."
endif

# Both write their figures and a plot to test-output/benchmarks.
bench: ready-bench ## compare CPU, memory, event loop and connections with their baselines; fails if a limit is missed
	@PYTHONPATH=tests:tests/support $(PY) -m benchmarks --output test-output/benchmarks $(ARGS)

bench-short: ready-bench ## run shorter benchmarks in about a minute; fails at twice a limit
	@PYTHONPATH=tests:tests/support $(PY) -m benchmarks --short --output test-output/benchmarks $(ARGS)

soak: ready-test ## kill processes, break connections, let Redis fail; then count lost and duplicated work, and calls per second
	@PYTHONPATH=tests:tests/support $(PY) -m soak $(ARGS)

soak-short: ready-test ## run a shorter soak test, in about two minutes
	@PYTHONPATH=tests:tests/support $(PY) -m soak --short $(ARGS)

# MkDocs prints a notice about its next version, which this project does not use.
docs: export NO_MKDOCS_2_WARNING := 1
docs: ready-dev ## build the documentation site in site/; save images of it and of the command line
	$(PY) -m mkdocs build
	$(PY) -m pytest -m site tests/browser tests/project/test_docs_site.py
	@echo "Links to other sites, which are not opened, are listed in site/external-links.txt."

docs-serve: export NO_MKDOCS_2_WARNING := 1
docs-serve: ready-dev ## serve the documentation on http://127.0.0.1:8000 while you write
	@$(PY) -m mkdocs serve $(ARGS)

dist: ready-dev ## build the sdist and the wheel in dist/, twice, and check them
	$(PY) tools/dist.py

sbom: ready-dev ## build and check them, and list in dist/ all that the wheel installs (CycloneDX)
	$(PY) tools/dist.py --sbom

check: lint types generated exemptions interface ## run ruff, mypy and pyright; check the generated code and the public interface; count the exemptions

lint: ready-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: ready-dev
	$(PY) -m mypy
	$(PY) -m pyright
	@$(verify_types)

generated: ready-dev
	$(PY) tools/generate.py --check

exemptions: ready-dev
	$(PY) tools/exemptions.py

interface: ready-dev
	$(PY) tools/public_api.py --check

api: ready-dev ## write the public interface to api.txt, with which `make check` compares it
	$(PY) tools/public_api.py

generate: ready-dev ## generate generated/posten_signering_xml from xsd/direct.xsd
	$(PY) tools/generate.py

format: ready-dev ## let ruff fix and format the code
	$(PY) -m ruff check --fix-only --quiet .
	$(PY) -m ruff format .

constraints: ready-dev ## update the pinned versions in constraints.txt
	$(PY) -m uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --group dev \
	  --no-header --no-emit-index-url --output-file constraints.txt pyproject.toml

clean: ## delete everything that make created, including .venv
	rm -rf .venv .nox dist demo-output test-output site .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find src generated tests tools examples -name __pycache__ -type d -prune -exec rm -rf {} +

ready-demo ready-examples ready-test ready-bench ready-dev: ready-%:
	@sh tools/venv.sh $*
