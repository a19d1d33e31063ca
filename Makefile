# `make demo` and `make test` are all that a fresh machine needs (Linux, Python 3.11, git, make).
# `make soak`: faults injected and long runs, half an hour.
.PHONY: demo test soak lint setup clean
DATA ?=
ARGS ?=

setup:
	@bash scripts/bootstrap.sh

demo: setup
	@bash examples/quickstart/demo.sh $(DATA)

test: setup
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m pytest -n auto --dist loadfile $(ARGS)

soak: setup
	@.venv/bin/python -m pytest -m soak $(ARGS)

lint: setup
	@.venv/bin/python -m ruff check .

clean:
	rm -rf .venv .demo build dist *.egg-info
