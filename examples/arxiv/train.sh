#!/usr/bin/env bash
# Trains any architecture on arXiv: bash examples/arxiv/train.sh deeppyramidion [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" train arxiv "$@"
