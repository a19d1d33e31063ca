#!/usr/bin/env bash
# Fine-tunes a converted BART: DATA=data/arxiv GPUS=8 bash examples/bart_long/train.sh [options of fairseq-train];
# see README.md here.
. "$(dirname "$0")/settings.sh"
for setting in EPOCHS BATCH GPUS; do
    [[ "${!setting}" =~ ^[1-9][0-9]*$ || "$setting=${!setting}" = GPUS=0 ]] ||
        { echo "error: $setting=${!setting}: a whole number is needed, from 1 (GPUS from 0)" >&2; exit 1; }
done
passes=$((32 / (BATCH * (GPUS > 0 ? GPUS : 1)))) # an update has 32 documents on any machine
[ "$((passes * BATCH * (GPUS > 0 ? GPUS : 1)))" -eq 32 ] ||
    { echo "error: 32 documents cannot be divided into GPUS=$GPUS x BATCH=$BATCH" >&2; exit 1; }
[ -s "$DATA/text/train.source" ] ||
    { echo "error: no text/train.source in DATA=$DATA: say which folder preprocess/prepare.py wrote" >&2; exit 1; }
documents=$(wc -l <"$DATA/text/train.source")
updates=$(((EPOCHS * documents + 31) / 32)) # never 0, with which fairseq-train has no end
case "$PRECISION" in
    full | float32) how=() ;;
    tf32)
        [ "$GPUS" -gt 0 ] || { echo "error: PRECISION=tf32 needs a GPU: leave it out, or say PRECISION=bf16" >&2; exit 1; }
        how=() before=(env TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1) ;; # torch reads it at its start
    bf16) how=(--bf16) ;;
    fp16) how=(--fp16 --fp16-init-scale 4) ;;
    *) echo "error: PRECISION=$PRECISION: one of full, float32, tf32, fp16, bf16" >&2; exit 1 ;;
esac
[ "$GPUS" -eq 0 ] || how+=(--distributed-world-size "$GPUS")
# shellcheck disable=SC2086 # OPTIONS are several words
stock train --arch "$ARCH" --max-target-positions 512 $OPTIONS --finetune-from-model "$MODEL/model.pt" \
    --criterion cross_entropy --optimizer adam --adam-betas "(0.9, 0.999)" --lr 8e-5 --clip-norm 1.0 \
    --lr-scheduler polynomial_decay --warmup-updates $((updates / 10)) --total-num-update "$updates" \
    --max-update "$updates" --batch-size "$BATCH" --update-freq "$passes" "${how[@]}" \
    --keep-last-epochs 2 --save-dir "$SAVE" "$@"
