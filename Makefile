# `make demo` and `make test` are all that a fresh machine needs (Linux, Python 3.11, git, make).
# `make soak`: faults injected, long runs, BART at its real shapes; nine minutes on two cores.
# `make gpu`: what needs a GPU, tests and benchmarks; goes on where it was stopped.
# `make versions`: the oldest and the newest torch, numpy and transformers, in environments of their own; needs the network.
# `make lint`: style, format and types. `make check`: that, and the tests that find most (tests/check.txt); 90 seconds.
.PHONY: demo test check soak gpu versions lint setup clean
DATA ?=
ARGS ?=

setup:
	@bash scripts/bootstrap.sh

demo: setup
	@bash examples/quickstart/demo.sh $(DATA)

test: lint
	@.venv/bin/python -m pytest -n auto --dist loadfile $(ARGS)

check: lint
	@.venv/bin/python -m pytest -n 2 --dist loadfile @tests/check.txt $(ARGS)

soak: setup
	@.venv/bin/python -m pytest -m soak $(ARGS)

gpu: setup
	@.venv/bin/python scripts/gpu.py $(ARGS)

versions:
	@$(or $(wildcard .venv/bin/python),python3) scripts/versions.py $(ARGS)

lint: setup
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

clean:
	rm -rf .venv .demo build dist *.egg-info pyramidion_fairseq/functional/topk/_native.*.so
