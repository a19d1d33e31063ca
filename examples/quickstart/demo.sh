#!/usr/bin/env bash
# Summaries by the model that comes with the package; then a small DeepPyramidion of your own, from text to ROUGE,
# through the stock fairseq commands. `make demo` runs this.
#   examples/quickstart/demo.sh                      on the documentation of this Python installation
#   examples/quickstart/demo.sh articles.jsonl.gz    on your own documents (formats: preprocess/README.md)
# Stopped and started again, it goes on where it was. TRAIN_HOURS=1 trains longer than the default 0.08 (5 minutes);
# WORKERS=8 uses more processes; OUT=folder writes elsewhere than .demo/.
set -euo pipefail
data="${1:-}"
case "$data" in
    "" | *:*) ;; # DOCUMENTS.txt:SUMMARIES.txt
    *) data=$(realpath -e -- "$data" 2> /dev/null) || { echo "error: there is no file $1" >&2; exit 1; } ;;
esac
cd "$(dirname "$0")/../.."
export PATH="$PWD/.venv/bin:$PATH" PYTHONWARNINGS=ignore

name="${data:+$(basename "$data" | sed 's/\..*//')}"
out="${OUT:-.demo/${name:-python-docs}}"
workers="${WORKERS:-$(nproc)}"
corpus=(--python-docs)
[ -z "$data" ] || corpus=(--input "$data")
device=(--cpu)
python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' && device=()
say() { printf '\n== %s\n' "$*"; }

say "Three articles from PubMed, summarised by the model that comes with the package"
mkdir -p "$out"
articles=examples/pubmed_small/articles.jsonl
shipped=(pyramidion-summarize "$articles")
printf '%q ' "${shipped[@]}"; echo
"${shipped[@]}" 2> "$out/articles.err" | fold -s -w 110 || { tail -n 3 "$out/articles.err" >&2; exit 1; }
page=(pyramidion-summarize "$articles" --format html --output "$out/articles.html" --overwrite)
printf '\nWhere each word came from, on a page for the browser: %s\n' "$out/articles.html"
printf '%q ' "${page[@]}"; echo
"${page[@]}" 2> "$out/articles.err" || { tail -n 3 "$out/articles.err" >&2; exit 1; }

say "1/4 Corpus: read, clean, sentencepiece, binarise -> $out/data"
# 2048 and 128 tokens are only for the report: the task cuts to the model's lengths.
python preprocess/prepare.py "$out/data" "${corpus[@]}" --vocab-size 4000 --workers "$workers" \
    --max-source-positions 2048 --max-target-positions 128

say "2/4 Training a small DeepPyramidion: 2048 -> 512 -> 128 vectors (full log: $out/train.log)"
# A run belongs to its data: other documents or another vocabulary start a new one.
run=$(cat "$out/data/sentencepiece.model" "$out/data/data-bin/"train.*.idx | sha256sum | cut -c1-8)
checkpoints="$out/checkpoints-$run"
# --arch deeppyramidion with every width and length made smaller; the schedule has the paper's shape.
train=(fairseq-train "$out/data/data-bin" --user-dir pyramidion_fairseq
    --task long_document_summarization --arch deeppyramidion
    --encoder-layers 4 --decoder-layers 3 --encoder-attention-heads 4 --decoder-attention-heads 4
    --encoder-embed-dim 128 --decoder-embed-dim 128 --encoder-ffn-embed-dim 512 --decoder-ffn-embed-dim 512
    --max-source-positions 2048 --max-target-positions 128 --block-size 128 --pooling-schedule "2:512,3:128"
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --optimizer adam --adam-betas "(0.9, 0.98)"
    --lr 0.002 --lr-scheduler inverse_sqrt --warmup-updates 100 --clip-norm 1.0
    --max-tokens 8192 --batch-size 8 --max-epoch 20 --stop-time-hours "${TRAIN_HOURS:-0.08}"
    --save-dir "$checkpoints" --no-epoch-checkpoints --save-interval-updates 250 --keep-interval-updates 1
    --validate-interval-updates 250 --seed 1 --num-workers 0 --log-format simple --log-interval 25 --autocast auto "${device[@]}")
printf '%q ' "${train[@]}"; echo
set +e
"${train[@]}" 2>&1 | tee -a "$out/train.log" |
    grep --line-buffered -E '\| (train_inner|valid) \||documents cut|summaries cut|run_log \| model|^error'
status=${PIPESTATUS[0]}
set -e
[ "$status" = 0 ] || { echo "training failed: see the end of $out/train.log" >&2; exit 1; }

say "3/4 Summarising the test split with beam 2 -> $out/generate.log"
generate=(fairseq-generate "$out/data/data-bin" --user-dir pyramidion_fairseq --task long_document_summarization
    --path "$checkpoints/checkpoint_last.pt" --gen-subset test --beam 2 --lenpen 1 --min-len 10 --max-len-b 120
    --no-repeat-ngram-size 3 --batch-size 16 --bpe sentencepiece --sentencepiece-model "$out/data/sentencepiece.model"
    "${device[@]}")
printf '%q ' "${generate[@]}"; echo
"${generate[@]}" > "$out/generate.log" 2> "$out/generate.err" ||
    { tail -n 3 "$out/generate.err" >&2; echo "generation failed: see $out/generate.err" >&2; exit 1; }

say "4/4 ROUGE against the lead baseline"
text="$out/data/text"
summaries=(pyramidion-summaries "$out/generate.log" --references "$text/test.target" --output "$out/summaries.txt")
rouge=(pyramidion-rouge "$text/test.target" "$out/summaries.txt" --json "$out/rouge.json"
    --lead "$text/test.source")
printf '%q ' "${summaries[@]}"; echo
"${summaries[@]}"
printf '%q ' "${rouge[@]}"; echo
"${rouge[@]}"
printf '\nFirst test document, its summary:  %s\n' "$(head -n 1 "$text/test.target" | cut -c 1-300)"
printf 'What this model wrote:             %s\n' "$(head -n 1 "$out/summaries.txt" | cut -c 1-300)"

cat <<EOF

Where everything lies ($out/):
  articles.html                      three articles, their summaries, and where each word came from
  data/report.txt, data/report.png   lengths of documents and summaries
  data/data-bin, sentencepiece.model what fairseq-train reads
  checkpoints-*/, train.log          the model and its training
  summaries.txt                      one summary a line, in the order of data/text/test.source
  rouge.json                         all scores: precision, recall, F1, intervals, settings
What to type next:
  make demo DATA=articles.jsonl.gz   the same on your own documents
  TRAIN_HOURS=1 make demo            train longer, from where this run stopped
  docs/training.md                   DeepPyramidion at full size on arXiv and PubMed
EOF
