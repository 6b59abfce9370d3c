# Every target does the set-up that it needs, says what it does, and does nothing twice.
SHELL := /bin/bash
PYTHON := .venv/bin/python
export PYTHONPATH := hack

.PHONY: help
help: ## Say what each target does
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
.DEFAULT_GOAL := help

.PHONY: venv
venv: ## Make the Python environment .venv
	@hack/venv

.PHONY: demo
demo: venv ## Show the operator at work on a real cluster of this machine (KEEP=1 leaves the cluster running)
	@$(PYTHON) -m demo

.PHONY: test
test: venv ## Run the checks and all tests, each tier that this machine can run (ONLY='unit loop' for some)
	@$(PYTHON) hack/test.py $(ONLY)

.PHONY: check
check: venv ## Lint, types, layers, and whether what is generated is up to date
	@$(PYTHON) hack/check.py

.PHONY: format
format: venv ## Format the Python code
	@$(PYTHON) -m ruff check --quiet --fix-only . && $(PYTHON) -m ruff format .

.PHONY: chaos
chaos: venv ## Kill a real sidecar's processes N times under load, against a dictionary (N=300 SEED=1)
	@$(PYTHON) -m chaos $(if $(N),--kills $(N)) $(if $(SEED),--seed $(SEED))

.PHONY: crash
crash: venv ## Kill the engine before each of its system calls, fail each of them, and lose power after each (root, strace)
	@PYTHONPATH=hack:. $(PYTHON) hack/crashpoints.py $(if $(ONLY),--only $(ONLY))

.PHONY: faults
faults: venv ## Kill, pause and cut off operator and sidecars at every step, mutate every field, break a cluster (N= SEED= ONLY=)
	@PYTHONPATH=hack:. $(PYTHON) hack/faults.py $(if $(N),--repeat $(N)) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY))

.PHONY: bench
bench: venv ## Measure every target beside hnswlib, usearch and faiss (BENCH_VECTORS=f.npy, BENCH_QUICK=1, ONLY=, SCALE=1000000)
	@hack/venv bench
	@$(PYTHON) -m bench $(if $(BENCH_QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(SCALE),--scale $(SCALE))

.PHONY: generate
generate: venv ## Write the CRDs, the manifests and the reference from their sources
	@$(PYTHON) hack/generate.py

.PHONY: lock
lock: venv ## Write the lock files from pyproject.toml
	@constraint=; for extra in "" dev bench; do \
	  lock=requirements$${extra:+-$$extra}.lock; \
	  $(PYTHON) -m uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    --python-version 3.11 $${extra:+--extra $$extra} $${constraint:+--constraint $$constraint} \
	    --output-file $$lock pyproject.toml || exit 1; constraint=$$lock; done

.PHONY: clean
clean: ## Remove what was made here (the cluster's programs stay in the cache; see hack/devcluster/README.md)
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
