#!/usr/bin/env bash
# Scores the summaries of a row of Table 8: bash examples/table8/evaluate.sh 31 [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" evaluate table8 "$@"
