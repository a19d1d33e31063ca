#!/usr/bin/env bash
# Summarises with any architecture on PubMed: bash examples/pubmed/generate.sh deeppyramidion [DATA=folder ...] [options]; see README.md here.
here="$(cd "$(dirname "$0")" && pwd)"
PATH="$here/../../.venv/bin:$PATH" exec python "$here/../recipe.py" generate pubmed "$@"
