# Targets of the whole course, read by the Makefile: the demos, and what authors and instructors need.
DEMO_EVENTS ?= 5000
REAL_DATA ?=
PER_SECOND ?= 20
PORT ?=
SIZES ?= 10000 100000 1000000
LOADS ?= 3000 100000
FACTS ?= 1000000
TRIES ?= 200
SEED ?= 1
SUBMISSION ?=
OUT ?=
THROUGH ?=
GRADE_SEED ?=
UNSAFE ?=
ALL ?=
.PHONY: demo live grade build verify handout lint bench million endurance kills pins test-fast test-services test-engine contract

demo: setup ## stream and yearly files into one warehouse, with a kill in mid-run; reconcile; demo.html (DEMO_EVENTS=5000 SEED=1 REAL_DATA=dir BATCH_ENGINE=spark)
	@$(PY) -m solutions.demo demo --events "$(DEMO_EVENTS)" --seed "$(SEED)" $(if $(REAL_DATA),--real-data "$(REAL_DATA)")

live: setup ## simulator, stream and a page that refreshes by itself, until Ctrl-C (PER_SECOND=20 PORT=8501)
	@$(PY) -m solutions.live live --per-second "$(PER_SECOND)" --seed "$(SEED)" $(if $(PORT),--port "$(PORT)")

grade: ready lab-number ## all checks on a notebook that was handed in, in a sandbox (N=02 SUBMISSION=path OUT=dir GRADE_SEED=7 UNSAFE=1)
	@test -n "$(SUBMISSION)" || { echo "error: name the notebook to grade: make grade N=$(N) SUBMISSION=path/to/lab.ipynb" >&2; exit 1; }
	@$(PY) -m grading.author grade --lab "$(N)" $(if $(SERVICES),--services "$(SERVICES)") --submission "$(SUBMISSION)" $(if $(OUT),--out "$(OUT)") $(if $(GRADE_SEED),--seed "$(GRADE_SEED)") $(if $(UNSAFE),--unsafe)

build: setup ## author: labs/ and the executed solution notebooks from solutions/ (N=02)
	@$(PY) -m grading.author build $(if $(N),--lab "$(N)")

verify: setup ## author: is every lab what it promises? what changed, and a sample (N=02 ALL=1)
	@$(PY) -m grading.author verify $(if $(N),--lab "$(N)") $(if $(ALL),--all)

handout: setup ## instructor: cut a class's copy, without solutions and hidden checks (THROUGH=03 OUT=dir)
	@test -n "$(THROUGH)" -a -n "$(OUT)" || { echo "error: name the last lab and a folder: make handout THROUGH=03 OUT=../class" >&2; exit 1; }
	@$(PY) -m grading.author handout --through "$(THROUGH)" --out "$(OUT)"

test-fast: setup ## the tests that need no service
	@$(PY) -m pytest --services=local -m "not services and not spark and not engine and not compose and not long"

test-services: setup ## the tests that need services (SERVICES=…)
	@$(PY) -m pytest $(if $(SERVICES),--services=$(SERVICES)) -m "(services or spark) and not engine and not compose and not long"

test-engine: setup ## the tests of images, containers and the engine's faults; an engine must run, make images must have been here
	@$(PY) -m pytest --services=local -m engine

contract: setup ## what the course asks of an image, asked of any (KAFKA_IMAGE=… ZOOKEEPER_IMAGE=… KRAFT_IMAGE=… MYSQL_IMAGE=…)
	@$(foreach image,ZOOKEEPER_IMAGE KAFKA_IMAGE KRAFT_IMAGE MYSQL_IMAGE JUPYTER_IMAGE,$(if $($(image)),$(image)="$($(image))")) $(PY) -m pytest --services=local -m engine tests/lanes/test_images.py

lint: setup ## ruff
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

bench: setup ## ratios: Spark's start against pyspark's own; exactly once against a bare append and the naive way; the ways of loading; grading (about 25 minutes; LOADS="3000 1000000")
	@$(PY) -m benchmarks.spark_start
	@$(PY) -m benchmarks.throughput $(foreach size,$(SIZES),--sizes $(size))
	@$(PY) -m benchmarks.loading $(foreach size,$(LOADS),--sizes $(size))
	@$(PY) -m benchmarks.grading
	@$(PY) -m benchmarks.grading_spark

million: setup ## one yearly file of a million accidents: seconds by part, memory, checksum (FACTS=1000000 SEED=1)
	@$(PY) -m benchmarks.million --facts "$(FACTS)" --seed "$(SEED)"

endurance: setup ## ten demos, in each of which everything is killed once (about ten minutes)
	@$(PY) -m benchmarks.endurance

kills: setup ## two loaders at once, MySQL and loaders killed at random moments; each try against the oracle (about 30 minutes; TRIES=200 SEED=1)
	@$(PY) -m benchmarks.loads_killed --tries "$(TRIES)" --seed "$(SEED)"

pins: ## author: compile requirements.in to requirements.txt (needs uv)
	@uv pip compile -q --universal --python-version 3.10 --generate-hashes --custom-compile-command "make pins" requirements.in -o requirements.txt
