#!/usr/bin/env bash
# The small model of articles from PubMed that comes with the package, from the corpus to the released folder.
#   examples/pubmed_small/make_model.sh SUMPUBMED OUT
# SUMPUBMED holds train, val and test .jsonl.gz. Stopped and started again, it goes on where it was. GAP_UPDATES and
# UPDATES (750 and 1250) are those of the two trainings; LAUNCHER="nice -n 10" goes before every one of them. TWIN=1
# trains the same model without poolings, to compare with.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD" PYTHONWARNINGS=ignore

[ $# = 2 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
source_folder=$1 out=$2
gap_updates=${GAP_UPDATES:-750} updates=${UPDATES:-1250}
here=examples/pubmed_small
say() { printf '\n== %s\n' "$*"; }
done_once() { # NAME COMMAND...: once, however often this script is started
    [ -e "$out/$1.done" ] && return
    "${@:2}"
    touch "$out/$1.done"
}

say "1/5 Corpus without the publishers' boilerplate, 10,000 pieces -> $out/data"
mkdir -p "$out"
done_once clean python $here/clean.py "$source_folder" "$out/clean"
python preprocess/prepare.py "$out/data" --vocab-size 10000 --user-symbols '<dig>,<cit>' \
    --train "$out/clean/train.jsonl.gz" --valid "$out/clean/val.jsonl.gz" --test "$out/clean/test.jsonl.gz"

say "2/5 Pairs for pretraining, of the articles alone -> $out/gap_data"
done_once gaps python $here/gap_sentences.py "$out/clean" "$out/gaps"
python preprocess/prepare.py "$out/gap_data" --vocab-size 10000 --spm-model "$out/data/sentencepiece.model" \
    --train "$out/gaps/train.jsonl.gz" --valid "$out/gaps/val.jsonl.gz" --test "$out/gaps/val.jsonl.gz"

pooled=(--arch deeppyramidion_pointer --pooling-schedule "2:1024,3:512")
[ -z "${TWIN:-}" ] || pooled=(--arch deep_blockwise_pointer)
device=(--cpu)
python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' && device=()
train() { # DATA FOLDER OPTIONS...
    ${LAUNCHER:-} fairseq-train "$1" --user-dir pyramidion_fairseq --task long_document_summarization \
        "${pooled[@]}" --encoder-layers 4 --decoder-layers 3 --layernorm-embedding \
        --encoder-embed-dim 256 --encoder-ffn-embed-dim 1024 --encoder-attention-heads 4 \
        --decoder-embed-dim 256 --decoder-ffn-embed-dim 1024 --decoder-attention-heads 4 \
        --block-size 128 \
        --max-source-positions 2048 --max-target-positions 512 --required-seq-len-multiple 64 \
        --criterion chunked_cross_entropy --optimizer fused_adamw --adam-betas "(0.9, 0.98)" --weight-decay 0.05 \
        --clip-norm 1 --batch-size 8 --autocast auto --attention-dropout 0 --activation-dropout 0 --seed 1 \
        --num-workers 1 --log-format simple --log-interval 25 --save-interval-updates 250 --keep-interval-updates 1 \
        --no-epoch-checkpoints --save-dir "$2" "${device[@]}" "${@:3}" 2>&1 | tee -a "$2.log" |
        grep --line-buffered -E '\| (train_inner|valid) \||^error'
}

say "3/5 Pretraining: $gap_updates updates (log: $out/pretrained.log)"
train "$out/gap_data/data-bin" "$out/pretrained" --dropout 0 --lr 1e-3 --lr-scheduler inverse_sqrt \
    --warmup-updates 200 --max-update "$gap_updates"

say "4/5 Training on abstracts: $updates updates (log: $out/trained.log)"
train "$out/data/data-bin" "$out/trained" --dropout 0.1 --lr 8e-4 --lr-scheduler polynomial_decay --power 1 \
    --end-learning-rate 2e-5 --total-num-update "$updates" --warmup-updates 100 --max-update "$updates" \
    --finetune-from-model "$out/pretrained/checkpoint_last.pt"

say "5/5 The released folder -> $out/released"
python $here/release.py "$out/trained/checkpoint_best.pt" "$out/data" "$out/released"
cp pyramidion_fairseq/pretrained/pubmed_small/generation.json "$out/released/" 2> /dev/null || true
