#!/usr/bin/env bash
# Scores the summaries of any architecture on PubMed: bash examples/pubmed/evaluate.sh deeppyramidion [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" evaluate pubmed "$@"
