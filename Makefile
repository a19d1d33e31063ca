# `make demo` and `make test` are all that a fresh machine needs (Linux, Python 3.11, git, make).
# `make soak`: faults injected, long runs, pretrained models at their real shapes; takes long.
# `make gpu`: what needs a GPU, tests and benchmarks; goes on where it was stopped. `make gpu WHEELS=folder`: without a
# network, with this machine's python3 and its torch; `ARGS="--minutes 10"`: what says most in ten minutes.
# `make versions`: the oldest and the newest torch, numpy and transformers, in environments of their own; needs the network.
# `make test` and `make check` see no GPU: they fork processes that train, which autograd refuses once it has seen one.
# `make test` lints beside the tests: one core is enough for that.
# What pytest makes of the files of tests is kept, whatever the environment says: 8 seconds of each process.
# `make lint`: style, format and types. `make check`: that, and the tests that find most (tests/check.txt); 90 seconds.
.PHONY: demo test check soak gpu versions lint setup clean
DATA ?=
ARGS ?=
WHEELS ?=

setup:
	@bash scripts/bootstrap.sh

demo: setup
	@bash examples/quickstart/demo.sh $(DATA)

test: setup
	@$(MAKE) --no-print-directory lint & \
	CUDA_VISIBLE_DEVICES= PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS); \
	status=$$?; wait $$! && exit $$status

check: lint
	@CUDA_VISIBLE_DEVICES= PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pytest -n 2 --dist loadfile @tests/check.txt $(ARGS)

soak: setup
	@.venv/bin/python -m pytest -m soak $(ARGS)

gpu: $(if $(WHEELS),,setup)
	@$(if $(WHEELS),python3,.venv/bin/python) scripts/gpu.py $(if $(WHEELS),--wheels $(WHEELS)) $(ARGS)

versions:
	@$(or $(wildcard .venv/bin/python),python3) scripts/versions.py $(ARGS)

lint: setup
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy

clean:
	rm -rf .venv .demo build dist *.egg-info pyramidion_fairseq/functional/topk/_native.*.so
