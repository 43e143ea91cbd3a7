PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev
# Files of tests on two cores, in the order of tests/conftest.py: the slow ones first, so that no core waits for one.
TWO_AT_ONCE := $(BIN)/pytest -q -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help install demo demo-data test check unit integration bench bench-data evidence drift-year faults hostile planted sweep verify test-gpu test-cluster test-cluster-smoke images wheel clean

help: ## Show this help
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk 'BEGIN {FS = ":.*?## "}; {printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Fairlead needs Python 3.11 (make PYTHON=/path/to/python3.11)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@echo "installing (30 s with a warm cache, 1 to 3 minutes without) ..."
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install -q --compile-bytecode -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

install: $(VENV)/.installed ## Make the virtual environment

demo: install ## Tell the whole story on real data: four versions, one leak of time, one broken graph
	@$(BIN)/python examples/flights/demo.py

demo-data: install ## What the data commands say of the same flights: leaks, a season, three mistaken extracts, a profile
	@$(BIN)/python examples/flights/data_demo.py

test: install check ## All tests: check, unit, integration on real local Ray and a real S3 server
	@$(TWO_AT_ONCE) -m 'not ray and not gpu and not cluster' tests
	@$(BIN)/pytest -q -m 'ray and not gpu and not cluster' tests

check: install ## Format, lint, types, imports
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy

unit: install ## Fast tests
	@$(TWO_AT_ONCE) -m 'not ray and not gpu and not s3 and not cluster' tests

integration: install ## Tests on a real local Ray and a real S3 server
	@$(TWO_AT_ONCE) -m 's3 and not ray and not gpu and not cluster' tests
	@$(BIN)/pytest -q -m 'ray and not gpu and not cluster' tests

bench: install ## Every figure that the documentation quotes, side by side with its peer
	@$(BIN)/python benchmarks/run.py

bench-data: install ## Statistics beside Arrow's decode, duckdb, polars, Evidently, TFDV (ARGS="--rows 1000000 --rounds 3")
	@$(BIN)/python benchmarks/data_profile.py --peers .fairlead/bench-peers $(ARGS)

faults: install ## What clients see when replicas, candidates or shadows break, or load is too high
	@$(BIN)/python benchmarks/faults.py

sweep: install ## Kill and mislead rollouts at every write, simulated and real (ARGS="--replay NAME" tells one run)
	@cd tests/deploy && ../../$(BIN)/python -m crash_sweep $(ARGS)
	@$(if $(ARGS),:,FAIRLEAD_KILLS=all $(BIN)/pytest -q -rP tests/serve/test_serve_rollout_kills.py)

hostile: install ## Damaged, misnamed and endless files, S3 that fails: docs/hostile-files.md (2 minutes)
	@cd tests/data && ../../$(BIN)/python -m hostile $(ARGS)

planted: install ## What is found of 40 planted anomalies, leaks, skews and drifts: docs/planted.md (a quarter of an hour; ARGS=--no-peers: minutes)
	@$(BIN)/python benchmarks/planted.py --peers .fairlead/bench-peers $(ARGS)

evidence: install ## Error rates and speed of the rollout's tests by simulation: docs/evidence.md (some minutes)
	@$(BIN)/python benchmarks/evidence_table.py

drift-year: install ## False drift alarms and days to detection over simulated years: docs/drift-year.md (some minutes)
	@$(BIN)/python benchmarks/drift_year.py $(ARGS)

verify: install ## Regenerate derived files (schema, reference, compiled pipelines) and fail on a difference
	@$(BIN)/python docs/generate.py --check

test-gpu: install ## NCCL, bf16, fp16 with scaler, resume on one GPU
	@$(BIN)/pytest -q -m gpu tests

test-cluster: install wheel ## Tests on a real Kubernetes (CLUSTER=folder of one to bring up, or KUBECONFIG)
	@$(BIN)/python tests/cluster/run.py

test-cluster-smoke: install wheel ## The short form: one RayJob, one RayService, one step of traffic
	@$(BIN)/python tests/cluster/run.py --smoke

wheel: install ## Build the wheel into dist/
	@$(BIN)/uv build -q --wheel

images: wheel ## Build the container images with buildah, podman or docker (BASE=, REGISTRY=, ONLY="serving runner")
	@$(BIN)/python images/build.py $(ONLY)

clean: ## Remove what the other commands made
	rm -rf $(VENV) dist demo demo-data .fairlead .mypy_cache .pytest_cache .ruff_cache
