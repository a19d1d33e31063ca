#!/usr/bin/env bash
# ROUGE of what generate.sh wrote: DATA=data/arxiv bash examples/bart_long/evaluate.sh [options of pyramidion-rouge];
# see README.md here.
. "$(dirname "$0")/settings.sh"
references="$DATA/text/$SUBSET.target"
run pyramidion-summaries "$SAVE/generate-$SUBSET.txt" --references "$references" --output "$SAVE/summaries-$SUBSET.txt"
run pyramidion-rouge "$references" "$SAVE/summaries-$SUBSET.txt" --json "$SAVE/rouge-$SUBSET.json" "$@"
