# Two commands do it all on a bare machine: make demo, make test.
PYTHON ?= python3
DEMO_EVENTS ?= 5000
REAL_DATA ?=
PER_SECOND ?= 20
PORT ?=
SIZES ?= 10000 100000 1000000
SEED ?= 1
N ?=
E ?=
NOTEBOOK ?=
SUBMISSION ?=
OUT ?=
GRADE_SEED ?=
UNSAFE ?=
ALL ?=
PY := .venv/bin/python
export PYTHONDONTWRITEBYTECODE = 1
.DEFAULT_GOAL := help
.PHONY: help setup demo live up down status doctor reset check grade build verify test lint bench endurance pins ready lab-number

help: ## this list
	@awk -F':.*## ' '/^[a-z]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## everything the course needs, once (virtual environment, jars, MySQL, .env)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is not Python 3.10 to 3.13; install one and name it, for example: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) services/bootstrap.py
	@$(PY) -m services setup

demo: setup ## stream and yearly files into one warehouse, with a kill in mid-run; reconcile; demo.html (DEMO_EVENTS=5000 SEED=1 REAL_DATA=dir BATCH_ENGINE=spark)
	@$(PY) -m solutions.demo demo --events "$(DEMO_EVENTS)" --seed "$(SEED)" $(if $(REAL_DATA),--real-data "$(REAL_DATA)")

live: setup ## simulator, stream and a page that refreshes by itself, until Ctrl-C (PER_SECOND=20 PORT=8501)
	@$(PY) -m solutions.live live --per-second "$(PER_SECOND)" --seed "$(SEED)" $(if $(PORT),--port "$(PORT)")

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

check: ready lab-number ## a lab's visible checks on your notebook (N=02 E=02.3 NOTEBOOK=path)
	@$(PY) -m grading check --lab "$(N)" $(if $(E),--exercise "$(E)") $(if $(NOTEBOOK),--notebook "$(NOTEBOOK)")

grade: ready lab-number ## all checks on a notebook that was handed in, in a sandbox (N=02 SUBMISSION=path OUT=dir GRADE_SEED=7 UNSAFE=1)
	@test -n "$(SUBMISSION)" || { echo "error: name the notebook to grade: make grade N=$(N) SUBMISSION=path/to/lab.ipynb" >&2; exit 1; }
	@$(PY) -m grading grade --lab "$(N)" --submission "$(SUBMISSION)" $(if $(OUT),--out "$(OUT)") $(if $(GRADE_SEED),--seed "$(GRADE_SEED)") $(if $(UNSAFE),--unsafe)

build: setup ## author: labs/ and the executed solution notebooks from solutions/ (N=02)
	@$(PY) -m grading build $(if $(N),--lab "$(N)")

verify: setup ## author: is every lab what it promises? what changed, and a sample (N=02 ALL=1)
	@$(PY) -m grading verify $(if $(N),--lab "$(N)") $(if $(ALL),--all)

test: setup ## the tests, on real local services
	@$(PY) -m pytest

lint: setup ## ruff
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

bench: setup ## ratios: Spark's start against pyspark's own; exactly once against a bare append and the naive way (about 15 minutes)
	@$(PY) -m benchmarks.spark_start
	@$(PY) -m benchmarks.throughput $(foreach size,$(SIZES),--sizes $(size))
	@$(PY) -m benchmarks.grading

endurance: setup ## ten demos, in each of which everything is killed once (about ten minutes)
	@$(PY) -m benchmarks.endurance

lab-number:
	@test -n "$(N)" || { echo "error: name the lab: make $(MAKECMDGOALS) N=02" >&2; exit 1; }

ready:
	@test -e .venv/complete || { echo "error: this checkout is not set up yet; run: make setup" >&2; exit 1; }

pins: ## author: compile requirements.in to requirements.txt (needs uv)
	@uv pip compile -q --universal --python-version 3.10 --generate-hashes --custom-compile-command "make pins" requirements.in -o requirements.txt
