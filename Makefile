# Every target makes what it needs; nothing from your shell counts but Python (3.11 or later) and make.
# What is built outside the tree (the control plane of the end-to-end tests) is kept in $SLICEWISE_CACHE, else ~/.cache/slicewise.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-$(shell cat requirements/run.txt pyproject.toml | cksum | tr -d ' ')
DEV := $(VENV)/.dev-$(shell cat requirements/dev.txt pyproject.toml | cksum | tr -d ' ')
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONDONTWRITEBYTECODE KUBECTL_PLUGINS_CALLER

.DEFAULT_GOAL := help
.PHONY: help demo check test unit e2e format lint types cluster cluster-demo chaos generate requirements bench fuzz clean docs compiled image-test nvidia-node release

help:  ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(RUN):
	@echo "Installing what Slicewise runs on into $(VENV) (once) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-deps --no-compile --require-hashes -r requirements/run.txt
	@echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/slicewise-tree.pth"
	@printf '#!%s\nfrom slicewise.cli import main\n\nraise SystemExit(main())\n' "$(CURDIR)/$(BIN)/python" > $(BIN)/slicewise
	@chmod +x $(BIN)/slicewise
	@rm -f $(VENV)/.run-* && touch $@

$(DEV): $(RUN)
	@echo "Installing what its developers use into $(VENV) (once) …"
	@$(BIN)/python -m pip install --quiet --no-deps --no-compile --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/.dev-* "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/slicewise-tree.pth" && touch $@

demo: $(RUN)  ## the main job on a recorded cluster: Python only, under a minute
	@$(BIN)/python -m slicewise demo

check: lint types unit  ## lint, types and unit tests: about a minute on two cores, for people who are editing

# `quick`, for people who are editing: fewer examples of each property (tests/conftest.py), and no release is built.
EXAMPLES := quick
# One more than there are cores: tests wait for programs that they start, and some for a clock.
WORKERS := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

lint: $(DEV)  ## ruff, import-linter, hadolint and zizmor
	@$(BIN)/ruff format --check --quiet . && $(BIN)/ruff check --quiet .
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/zizmor --offline --quiet --no-progress .github/workflows
	@$(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }

types: $(DEV)  ## mypy, strict
	@$(BIN)/mypy

unit: $(DEV)  ## unit and property tests: no API server
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --hypothesis-profile=$(EXAMPLES) $(if $(filter quick,$(EXAMPLES)),-m "not release") tests

e2e: $(DEV)  ## end to end: real API server, scheduler, Kueue, Volcano, cert-manager (built once, about half an hour)
	@$(BIN)/python -m e2e.harness.binaries > /dev/null
	@$(BIN)/python -m e2e.harness.schemas
	@$(BIN)/python -m pytest -q -n auto --dist loadscope --no-loadscope-reorder --durations 15 $(or $(TESTS),e2e)

test: EXAMPLES := thorough
test: check docs compiled e2e image-test  ## everything, releases too, each property on four times as many examples; what CI runs

compiled: $(DEV)  ## the webhook's tests against what decides of a review as the image has it: compiled
	@$(BIN)/python -m release.compiled -n 2 --hypothesis-profile=quick

image-test: $(DEV)  ## build the image without Docker and run both servers from it (root and Debian's packages)
	@$(BIN)/python -m release.image

nvidia-node: $(DEV)  ## a real kubelet with NVIDIA's programs, divided anew while quota follows (root; twenty minutes, then ten)
	@$(BIN)/python -m e2e.harness.binaries kubernetes kueue nvidia node
	@$(BIN)/python -m pytest -q -s e2e/nvidia_node.py

# ARGS="--image REPOSITORY --source ADDRESS"; $SLICEWISE_SIGNING_KEY signs (release/artifacts.py).
release: $(DEV)  ## the files of a release, in dist/
	@$(BIN)/python -m release.artifacts $(ARGS)

format: $(DEV)  ## put the code into shape
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

generate: $(DEV)  ## write what is generated: CRDs, completion, webhook configurations, manifests, tables of the documentation
	@$(BIN)/python -m slicewise.api.crds
	@$(BIN)/python -m slicewise.cli.completion
	@$(BIN)/python -m admission.webhook_configuration
	@$(BIN)/python -m release.manifests
	@$(BIN)/python -m tests.manifests.chart_readme
	@$(BIN)/python -m tests.docs
	@$(BIN)/python -m slicewise demo --picture docs/demo.svg > /dev/null

docs: $(DEV)  ## the documentation as a site, in build/site; fails on a dead link
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

cluster: $(RUN)  ## start a real control plane by hand; stays until stopped
	@$(BIN)/python -m e2e.harness.cluster

cluster-demo: $(RUN)  ## the demo's story on a real control plane with Kueue
	@$(BIN)/python -m e2e.harness.demo

chaos: $(DEV)  ## faults by chance on a real control plane, five minutes; SEED=7 MINUTES=60
	@$(BIN)/python -m e2e.chaos --minutes $(or $(MINUTES),5) $(if $(SEED),--seed $(SEED))

bench: $(DEV)  ## the benchmarks: two sides in one run, and their ratio
	@$(BIN)/python -m tests.benchmarks

fuzz: $(DEV)  ## a million damaged reviews; minutes to an hour
	@$(BIN)/python -m tests.fuzz --reviews 1000000

requirements: $(DEV)  ## pin requirements/*.txt anew
	@$(BIN)/python -m pip install --quiet pip-tools
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header -o requirements/run.txt pyproject.toml
	@$(BIN)/pip-compile -q --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header -c requirements/run.txt -o requirements/dev.txt pyproject.toml requirements/dev.in

clean:  ## remove what the targets made in the tree
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -r {} +
