#!/usr/bin/env bash
# Trains a row of Table 4: bash examples/table4/train.sh index-based [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" train table4 "$@"
