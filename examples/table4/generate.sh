#!/usr/bin/env bash
# Summarises with a row of Table 4: bash examples/table4/generate.sh index-based [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" generate table4 "$@"
