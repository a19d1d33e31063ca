# Read by the scripts here: settings KEY=VALUE of the environment, and how a command is run. README.md explains them.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PATH="$here/../../.venv/bin:$PATH"
: "${DATA:=data/arxiv}" "${MODEL:=checkpoints/bart_long/start}"
: "${SAVE:=checkpoints/bart_long/tuned-$(basename "$DATA")}" # other data do not continue the model of these
: "${ARCH:=bart_base_long_pooled}" "${OPTIONS:=}"
: "${EPOCHS:=6}" "${BATCH:=1}" "${PRECISION:=full}" "${SUBSET:=test}"
: "${GPUS:=$(nvidia-smi -L 2>/dev/null | grep -c . || true)}"

# Show a command; run it, unless DRY_RUN is set.
run() {
    printf '%q ' "$@" && echo
    [ -n "${DRY_RUN:-}" ] || "$@"
}

# What every stock command of fairseq starts with; "before" are words in front of it.
before=()
stock() {
    local command="$1"
    shift
    run ${before[@]+"${before[@]}"} "fairseq-$command" "$DATA/bart/data-bin" --user-dir pyramidion_fairseq --task long_document_summarization \
        $([ "$GPUS" -gt 0 ] || echo --cpu) "$@"
}
