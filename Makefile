# Two commands do it all on a bare machine: make demo, make test.
PYTHON ?= python3
N ?=
E ?=
NOTEBOOK ?=
BROWSER ?= 1
PY := .venv/bin/python
# Where services run: LANE=local|containers|compose for make up and everything after it, SERVICES=… for tests and grading. Empty: as .env says, else auto.
# What is named on make's command line (LANE, KAFKA, BROKERS, SPARK_WORKERS …) reaches the commands as an environment variable.
SERVICES ?=
BUNDLE ?=
export PYTHONDONTWRITEBYTECODE = 1
.DEFAULT_GOAL := help
.PHONY: help setup lab start check watch hint progress update submit reset up down status doctor test images bundle ready lab-number exercise-number

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## everything the course needs, once: virtual environment, jars, MySQL, .env (BUNDLE=class.tar: from that file)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || \
	  { echo "error: $(PYTHON) is not Python 3.10 to 3.13; install one and name it, for example: make $(or $(MAKECMDGOALS),setup) PYTHON=python3.12" >&2; exit 1; }
	@BUNDLE="$(abspath $(BUNDLE))" $(PYTHON) services/bootstrap.py
	@$(PY) -m services setup $(if $(BUNDLE),--bundle "$(abspath $(BUNDLE))")

lab: setup ## start the services, open JupyterLab on your copies in work/ (N=03 opens that lab, BROWSER= opens no browser)
	@$(PY) -m grading lab $(if $(N),--lab "$(N)") $(if $(BROWSER),,--no-browser)

start: ready lab-number ## make your own copy of a lab in work/ (N=03)
	@$(PY) -m grading start --lab "$(N)"

check: ready lab-number ## a lab's visible checks on your notebook (N=02 E=02.3 NOTEBOOK=path)
	@$(PY) -m grading check --lab "$(N)" $(if $(SERVICES),--services "$(SERVICES)") $(if $(E),--exercise "$(E)") $(if $(NOTEBOOK),--notebook "$(NOTEBOOK)")

watch: ready lab-number ## the same again each time you save, until Ctrl-C (N=03 E=03.2)
	@$(PY) -m grading watch --lab "$(N)" $(if $(E),--exercise "$(E)") $(if $(NOTEBOOK),--notebook "$(NOTEBOOK)")

hint: ready exercise-number ## the next hint for an exercise (E=03.2)
	@$(PY) -m grading hint --exercise "$(E)"

progress: ready ## what is done, and where to go on
	@$(PY) -m grading progress

update: setup ## bring a new version of the course into work/; answers and your own cells stay
	@$(PY) -m grading update

submit: ready lab-number ## check what is saved in a fresh process, and pack it to be handed in (N=03)
	@$(PY) -m grading submit --lab "$(N)" $(if $(NOTEBOOK),--notebook "$(NOTEBOOK)")

reset: ready ## one answer back to its stub, the old one kept (E=03.2); without E: drop all topics and databases (asks first)
	@$(if $(E),$(PY) -m grading reset --exercise "$(E)",$(PY) -m services reset)

up: setup ## start ZooKeeper, Kafka and MySQL (LANE=local|containers|compose KAFKA=zookeeper|kraft BROKERS=1|3 SPARK_WORKERS=2)
	@$(PY) -m services up

down: ready ## stop them; data stays
	@$(PY) -m services down

status: ready ## what runs, where
	@$(PY) -m services status

doctor: ready ## what is there, what is missing, the command that mends it
	@$(PY) -m services doctor

images: setup ## build the services' and JupyterLab's images without a registry, and name them in .env
	@$(PY) -m services images

bundle: setup ## all that set-up fetches in one file, for a class (OUT=class.tar; there: make setup BUNDLE=class.tar)
	@test -n "$(OUT)" || { echo "error: name the file to write: make bundle OUT=../class.tar" >&2; exit 1; }
	@$(PY) -m services bundle "$(OUT)"

test: setup ## the tests, on real services (SERVICES=auto|local|containers|compose WORKERS=2)
	@$(PY) -m pytest $(if $(SERVICES),--services=$(SERVICES)) $(if $(WORKERS),-n $(WORKERS) --dist loadfile --no-loadscope-reorder) $(PYTEST_MORE)

lab-number:
	@test -n "$(N)" || { echo "error: name the lab: make $(MAKECMDGOALS) N=02" >&2; exit 1; }

exercise-number:
	@test -n "$(E)" || { echo "error: name the exercise: make $(MAKECMDGOALS) E=02.3" >&2; exit 1; }

ready:
	@test -e .venv/complete || { echo "error: this checkout is not set up yet; run: make setup" >&2; exit 1; }

# The course's own: demo, live, and what authors and instructors need. A class's copy has a demo of its own instead.
-include solutions/author.mk labs/class.mk
