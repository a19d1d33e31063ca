#!/usr/bin/env bash
# Scores the summaries of a row of Table 7: bash examples/table7/evaluate.sh 24 [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" evaluate table7 "$@"
