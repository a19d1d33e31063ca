#!/usr/bin/env bash
# Summaries of a split: DATA=data/arxiv bash examples/bart_long/generate.sh [options of fairseq-generate]; see README.md.
. "$(dirname "$0")/settings.sh"
stock generate --path "$SAVE/checkpoint_best.pt" --gen-subset "$SUBSET" --batch-size 8 \
    --beam 2 --lenpen 1 --min-len 72 --max-len-b 511 \
    --bpe gpt2 --gpt2-encoder-json "$MODEL/encoder.json" --gpt2-vocab-bpe "$MODEL/vocab.bpe" \
    --results-path "$SAVE" "$@"
