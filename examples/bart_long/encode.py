"""A corpus as a converted BART reads it: text to GPT-2's BPE, then fairseq-preprocess with BART's own dictionary.

usage: python examples/bart_long/encode.py MODEL DATA [--workers N]

MODEL is what pyramidion-convert wrote (dict.txt, and encoder.json with vocab.bpe, or a sentencepiece model: of any
family), DATA what preprocess/prepare.py wrote (text/SPLIT.source, text/SPLIT.target). Writes DATA/bart/data-bin.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
from pathlib import Path
from typing import Any

import sentencepiece
from fairseq import options
from fairseq.data.encoders.gpt2_bpe_utils import get_encoder
from fairseq_cli import preprocess

#: What splits texts: a sentencepiece model under the name that the conversion gives it, or GPT-2's files.
PIECES, BYTES = "sentencepiece.model", ("encoder.json", "vocab.bpe")
_BPE: dict[str, Any] = {}  # of this process


def load(model: Path) -> None:
    """Read the BPE once in each process."""
    if (model / PIECES).exists():
        _BPE["encoder"] = sentencepiece.SentencePieceProcessor(model_file=str(model / PIECES))
        _BPE["options"] = {"out_type": str}
    else:
        _BPE["encoder"] = get_encoder(*(str(model / name) for name in BYTES))
        _BPE["options"] = {}


def encode(line: str) -> str:
    """Return a line's tokens, pieces or GPT-2's numbers with spaces between them."""
    return " ".join(map(str, _BPE["encoder"].encode(line.rstrip("\n"), **_BPE["options"])))


def main() -> None:
    """Run the program; bad input ends it with one line and exit status 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", type=Path)
    parser.add_argument("data", metavar="DATA", type=Path)
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count(), help="processes (default: all)")
    args = parser.parse_args()
    texts = {split: args.data / "text" / split for split in ("train", "valid", "test")}
    texts = {split: path for split, path in texts.items() if Path(f"{path}.source").exists()}
    files = [PIECES] if (args.model / PIECES).exists() else BYTES
    missing = [name for name in ("dict.txt", *files) if not (args.model / name).exists()]
    if missing or "train" not in texts:
        what = f"{args.model} has no {missing[0]}" if missing else f"{args.data} has no text/train.source"
        sys.exit(f"error: {what}")
    alone = [f"{path}.target" for path in texts.values() if not Path(f"{path}.target").exists()]
    if alone:
        sys.exit(f"error: there is no {alone[0]}")
    if args.workers < 1:
        sys.exit("error: --workers must be at least 1")
    binary = args.data / "bart" / "data-bin"
    write(args, texts, args.data / "bart" / "encoded", binary)
    for name in files:  # as what a model of these data needs
        shutil.copy(args.model / name, binary)


def write(args: argparse.Namespace, texts: dict[str, Path], encoded: Path, binary: Path) -> None:
    """Encode and binarise the texts of each split."""
    for folder in (encoded, binary):
        shutil.rmtree(folder, ignore_errors=True)  # of another model, or half done
        folder.mkdir(parents=True)
    with multiprocessing.Pool(args.workers, load, (args.model,)) as pool:
        for split, path in texts.items():
            for side in ("source", "target"):
                written = encoded / f"{split}.{side}"
                with (
                    open(f"{path}.{side}", encoding="utf-8", newline="\n") as lines,
                    open(written, "w", encoding="utf-8") as out,
                ):
                    out.writelines(line + "\n" for line in pool.imap(encode, lines, chunksize=32))
    words = ["--source-lang", "source", "--target-lang", "target", "--joined-dictionary", "--padding-factor", "1"]
    words += ["--srcdict", str(args.model / "dict.txt"), "--destdir", str(binary), "--workers", str(args.workers)]
    for split in texts:
        words += [f"--{split}pref", str(encoded / split)]
    preprocess.main(options.get_preprocessing_parser().parse_args(words))


if __name__ == "__main__":
    main()
