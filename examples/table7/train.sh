#!/usr/bin/env bash
# Trains a row of Table 7: bash examples/table7/train.sh 24 [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" train table7 "$@"
