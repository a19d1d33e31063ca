#!/usr/bin/env bash
# The small model of articles from PubMed that comes with the package, from the corpus to the released folder.
#   examples/pubmed_small/make_model.sh SUMPUBMED OUT
# SUMPUBMED holds train, val and test .jsonl.gz. Stopped and started again, it goes on where it was. UPDATES and
# EXTRACT_UPDATES (4000 and 300) are those of the two trainings; LAUNCHER="nice -n 10" goes before every one of them.
# TWIN=1 trains the same model without poolings, to compare with.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONPATH="$PWD" PYTHONWARNINGS=ignore

[ $# = 2 ] || { sed -n '2,6p' "$0" >&2; exit 2; }
source_folder=$1 out=$2
updates=${UPDATES:-4000} extract_updates=${EXTRACT_UPDATES:-300}
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

say "2/5 The same articles with their oracle extracts -> $out/extract_data"
done_once extracts python $here/oracle_extracts.py "$out/clean" "$out/extracts"
python preprocess/prepare.py "$out/extract_data" --vocab-size 10000 --spm-model "$out/data/sentencepiece.model" \
    --train "$out/extracts/train.jsonl.gz" --valid "$out/extracts/val.jsonl.gz" --test "$out/extracts/val.jsonl.gz"

model=(--arch deeppyramidion_pointer --pooling-schedule "2:512,3:128")
[ -z "${TWIN:-}" ] || model=(--arch deep_blockwise_pointer)
device=(--cpu)
python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' && device=()
train() { # DATA FOLDER UPDATES OPTIONS...
    ${LAUNCHER:-} fairseq-train "$1" --user-dir pyramidion_fairseq --task long_document_summarization \
        "${model[@]}" --encoder-layers 4 --decoder-layers 3 --block-size 128 \
        --encoder-embed-dim 128 --encoder-ffn-embed-dim 512 --encoder-attention-heads 4 \
        --decoder-embed-dim 128 --decoder-ffn-embed-dim 512 --decoder-attention-heads 4 \
        --max-source-positions 2048 --max-target-positions 512 --criterion chunked_cross_entropy \
        --optimizer adam --adam-betas "(0.9, 0.98)" --weight-decay 0.1 --clip-norm 1 --lr-scheduler polynomial_decay \
        --power 1 --end-learning-rate 1e-5 --total-num-update "$3" --max-update "$3" --batch-size 4 --autocast auto \
        --dropout 0 --attention-dropout 0 --activation-dropout 0 --seed 1 --num-workers 1 \
        --log-format simple --log-interval 25 --no-epoch-checkpoints --save-dir "$2" "${device[@]}" "${@:4}" 2>&1 |
        tee -a "$2.log" | grep --line-buffered -E '\| (train_inner|valid) \||^error'
}

say "3/5 Training on abstracts: $updates updates (log: $out/trained.log)"
train "$out/data/data-bin" "$out/trained" "$updates" --lr 1.5e-3 --warmup-updates 200 \
    --save-interval-updates 500 --keep-interval-updates 1

say "4/5 Training on extracts, passages told apart by four tokens: $extract_updates updates (log: $out/extracting.log)"
train "$out/extract_data/data-bin" "$out/extracting" "$extract_updates" --lr 5e-4 --warmup-updates 50 \
    --save-interval-updates 100 --keep-interval-updates 1 --pointer-context 4 \
    --finetune-from-model "$out/trained/checkpoint_last.pt"

say "5/5 The released folder -> $out/released"
python $here/release.py "$out/extracting/checkpoint_last.pt" "$out/data" "$out/released"
cp pyramidion_fairseq/pretrained/pubmed_small/generation.json "$out/released/" 2> /dev/null || true
