# Of a class's copy alone, read by the Makefile.
.PHONY: demo
demo: setup ## the pipeline, as far as your own functions reach; and what is still to build
	@$(PY) -m labs.demo
