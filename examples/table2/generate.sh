#!/usr/bin/env bash
# Summarises with a row of Table 2: bash examples/table2/generate.sh 8 [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" generate table2 "$@"
