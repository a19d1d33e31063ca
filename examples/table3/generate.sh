#!/usr/bin/env bash
# Summarises with a row of Table 3: bash examples/table3/generate.sh deeppyramidion [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" generate table3 "$@"
