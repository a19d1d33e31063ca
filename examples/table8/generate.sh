#!/usr/bin/env bash
# Summarises with a row of Table 8: bash examples/table8/generate.sh 31 [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" generate table8 "$@"
