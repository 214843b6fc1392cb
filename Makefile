# Two commands do it all on a bare machine: make demo, make test.
PYTHON ?= python3
DEMO_EVENTS ?= 5000
REAL_DATA ?=
SEED ?= 1
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE = 1
.DEFAULT_GOAL := help
.PHONY: help setup demo up down status doctor reset test lint bench endurance pins ready

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## everything the course needs, once (virtual environment, jars, MySQL, .env)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is not Python 3.10 to 3.13; install one and name it, for example: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) services/bootstrap.py
	@$(PY) -m services setup

demo: setup ## stream accidents through the whole pipeline, kill it in mid-run, resume, reconcile (DEMO_EVENTS=5000 SEED=1 REAL_DATA=dir)
	@$(PY) -m solutions.demo demo --events "$(DEMO_EVENTS)" --seed "$(SEED)" $(if $(REAL_DATA),--real-data "$(REAL_DATA)")

up: setup ## start ZooKeeper, Kafka and MySQL
	@$(PY) -m services up

down: ready ## stop them; data stays
	@$(PY) -m services down

status: ready ## what runs, where
	@$(PY) -m services status

doctor: ready ## what is there, what is missing, the command that mends it
	@$(PY) -m services doctor

reset: ready ## drop all topics and databases of this checkout (asks first)
	@$(PY) -m services reset

test: setup ## the tests, on real local services
	@$(PY) -m pytest

lint: setup ## ruff
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

bench: setup ## Spark's start against pyspark's own, as a ratio
	@$(PY) -m benchmarks.spark_start

endurance: setup ## ten demos, in each of which everything is killed once (about ten minutes)
	@$(PY) -m benchmarks.endurance

ready:
	@test -e .venv/complete || { echo "error: this checkout is not set up yet; run: make setup" >&2; exit 1; }

pins: ## author: compile requirements.in to requirements.txt (needs uv)
	@uv pip compile -q --universal --python-version 3.10 --generate-hashes --custom-compile-command "make pins" requirements.in -o requirements.txt
