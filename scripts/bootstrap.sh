#!/usr/bin/env bash
# Makes .venv with pinned dependencies, once; does nothing (and needs no network) when that is done.
# PYTHON=/path/to/python3.11 chooses the interpreter. WITH_EXTENSIONS=1 compiles fairseq's Cython/C++
# extensions too (5 minutes on 2 cores, needs a compiler); without them the plugin brings its own stand-in.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=requirements/lock.txt
stamp=.venv/.bootstrapped
wanted="$(cat "$lock" scripts/bootstrap.sh setup.py pyramidion_fairseq/functional/csrc/* | sha256sum | cut -d' ' -f1)-${WITH_EXTENSIONS:-0}-$PWD"
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && exit 0

die() { echo "bootstrap: $*" >&2; exit 1; }
python="${PYTHON:-$(command -v python3.11 || command -v python3 || true)}"
[ -n "$python" ] || die "no Python found; install Python 3.11, or say PYTHON=/path/to/python3.11"
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' ||
    die "$("$python" --version) at $python; the pinned set-up needs Python 3.11 to 3.13: PYTHON=/path/to/python3.11 make ..."

say() { echo "bootstrap: $*"; }
pip() { .venv/bin/python -m pip --disable-pip-version-check --quiet "$@"; }
say "making .venv with $("$python" --version) (once; a few minutes, mostly torch's download)"
[ -x .venv/bin/python ] || "$python" -m venv .venv || die "python -m venv failed; on Debian: apt-get install python3-venv"
# Torch and the build tools come first: fairseq-fixed has no wheel, its setup.py imports torch, and build
# isolation would download a second one.
say "1/3 torch, numpy and build tools"
pip install -c "$lock" torch numpy cython setuptools wheel
say "2/3 fairseq"
# Without what it asks for: torchaudio, which only its speech models use, breaks transformers where it was built for
# another torch. The rest is in the lock, which names everything.
if [ "${WITH_EXTENSIONS:-0}" = 1 ]; then
    pip install --no-cache-dir --no-build-isolation --no-deps -c "$lock" fairseq-fixed
else
    # READTHEDOCS=1 skips the extensions; --no-cache-dir keeps the extension-less wheel out of pip's cache.
    READTHEDOCS=1 pip install --no-cache-dir --no-build-isolation --no-deps -c "$lock" fairseq-fixed
fi
say "3/3 everything else, and this package (editable)"
pip install --no-deps -r "$lock"
pip uninstall --yes torchaudio 2> /dev/null # of an environment that was made when the lock had it
# torch for GPUs brings the triton it was built with; beside torch for CPUs it runs the kernels' tests.
.venv/bin/python -c 'import triton' 2> /dev/null || pip install --no-deps triton==3.9.0
# For the test of --ddp-backend fully_sharded, beside the environment: fairseq imports it where it can, with warnings. It
# has no wheel, and would be built beside a torch of its own, too.
[ -d .venv/fairscale ] || pip install --no-build-isolation --no-deps --target .venv/fairscale fairscale==0.4.13
rm -f pyramidion_fairseq/functional/topk/_native.*.so
pip install --no-build-isolation --no-deps -e .
ls pyramidion_fairseq/functional/topk/_native.*.so > /dev/null 2>&1 ||
    say "pooling on a CPU was not compiled, and will be slower; a C++ compiler, and make clean setup, would help"
echo "$wanted" > "$stamp"
say "done; .venv is ready"
