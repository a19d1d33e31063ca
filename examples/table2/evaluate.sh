#!/usr/bin/env bash
# Scores the summaries of a row of Table 2: bash examples/table2/evaluate.sh 8 [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" evaluate table2 "$@"
