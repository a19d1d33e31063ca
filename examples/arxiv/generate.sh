#!/usr/bin/env bash
# Summarises with any architecture on arXiv: bash examples/arxiv/generate.sh deeppyramidion [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" generate arxiv "$@"
