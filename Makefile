PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo demo-summarizer test test-slow lint bench

setup: .venv/installed  ## virtual environment with the pinned requirements

.venv/installed: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: setup  ## train -> log -> predict on the embedded default, on the CPU
	$(BIN)/python demo/run_demo.py

demo-summarizer: setup  ## build a tiny T5 -> train -> log -> predict, on the CPU
	$(BIN)/python demo/run_summarizer_demo.py

test: setup  ## the tests, on two cores
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-slow: setup  ## the slow tests, which `make test` leaves out
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: setup  ## training and prediction speed, side by side
	$(BIN)/python benchmarks/training_speed.py
	$(BIN)/python benchmarks/prediction_speed.py
