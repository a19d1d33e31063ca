#!/usr/bin/env bash
# A pretrained BART made long, sparse and pooled: bash examples/bart_long/convert.sh bart.base/model.pt
# [options of pyramidion-convert bart]; see README.md here.
. "$(dirname "$0")/settings.sh"
pretrained="${1:?this is how: convert.sh bart.base/model.pt, or a Hugging Face folder}"
shift
case "$ARCH" in *_pooled) pooled=(--pool-lengths 1024) ;; *) pooled=() ;; esac
# shellcheck disable=SC2086 # OPTIONS are several words
run pyramidion-convert bart "$pretrained" "$MODEL" --attention lsg "${pooled[@]}" $OPTIONS "$@"
