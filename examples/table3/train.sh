#!/usr/bin/env bash
# Trains a row of Table 3: bash examples/table3/train.sh deeppyramidion [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" train table3 "$@"
