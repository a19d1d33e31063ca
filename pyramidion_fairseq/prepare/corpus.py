"""Create the readers of a corpus from the command-line options."""

import argparse
import logging
import os
from typing import Any, Dict, List, Optional

from ..utils.files import is_same_file
from . import streams
from .errors import PrepareError
from .fields import LabelFields, refuse_twice
from .hub_reader import hub_splits
from .line_readers import JsonLines, TextPair
from .python_docs import PythonDocs
from .record_types import Reader, Source
from .table_readers import Csv, Parquet

logger = logging.getLogger("prepare")
SPLITS = ("train", "valid", "test")
ZIP_MEMBERS = {"train.txt": "train", "val.txt": "valid", "test.txt": "test"}


def sources(args: argparse.Namespace) -> List[Source]:
    """Return the sources of the corpus that the options describe.

    Raises:
        PrepareError: a file is missing, or cannot be read, or its format or fields are not recognised.
    """
    found = _sources(args)
    if args.labels is not None and not args.python_docs:
        for source in found:
            _label(source.reader, args)
    return found


def _label(reader: Any, args: argparse.Namespace) -> None:
    """Change a reader so that it returns labels instead of summaries, and the second texts of pairs."""
    if args.second_field:
        refuse_twice(getattr(reader, "columns", ()), args.second_field, reader.label)
    if hasattr(reader, "fields"):
        reader.fields = LabelFields(reader.fields.document, args.labels, args.second_field or "")
    elif args.second_field:
        raise PrepareError("--second-field requires records with fields: JSON lines, CSV, Parquet or a data set")


def _sources(args: argparse.Namespace) -> List[Source]:
    if args.python_docs:
        return [Source(PythonDocs(by_package=args.labels is not None), None, unique=True)]
    if args.huggingface:
        splits = hub_splits(
            args.huggingface, args.huggingface_config, args.document_field, args.labels or args.summary_field
        )
        if set(splits) == {"train"}:
            return [Source(splits["train"], None)]
        return [Source(splits[name], name) for name in SPLITS if name in splits]
    if args.input:
        found: List[Source] = []
        for number, value in enumerate(args.input):
            if any(value == other or is_same_file(value, other) for other in args.input[:number]):
                raise PrepareError(
                    f"--input has {value} twice: the same documents would be in the training and test splits"
                )
            if detect(value, args.format) == "zip":
                found += [Source(reader, name) for name, reader in zip_splits(value, args).items()]
            else:
                found.append(Source(file_reader(value, args), None))
        return found
    files = [(split, value) for split in SPLITS for value in getattr(args, split) or []]
    given = [Source(file_reader(value, args, split), split) for split, value in files]
    _warn_of_training_documents(given)
    return given


def _warn_of_training_documents(found: List[Source]) -> None:
    """Warn if the validation or test split is the same file as the training split."""
    trained = [source.reader.signature() for source in found if source.split == "train"]
    for source in found:
        if source.split != "train" and source.reader.signature() in trained:
            logger.warning(
                "--%s %s is also training data: its scores will be too high", source.split, source.reader.label
            )


def detect(value: str, requested: str) -> str:
    """Return the format of a file: the requested one, or one detected from its first bytes and its name."""
    if requested == "text" or (requested == "auto" and ":" in value and not os.path.exists(value)):
        return "text"
    start = streams.magic(value)
    if start == streams.ZIP_MAGIC:
        return "zip"
    if requested != "auto":
        return requested
    name = value.lower()
    if start == streams.PARQUET_MAGIC:
        return "parquet"
    if name.endswith((".csv", ".tsv", ".csv.gz", ".tsv.gz")):
        return "csv"
    with streams.open_stream(value) as stream:
        first = stream.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if first == b"{":
        return "jsonl"
    if first == b"[":
        raise PrepareError(f"{value} is one JSON array: write one object per line instead (jq -c '.[]')")
    if not first:
        raise PrepareError(f"{value} is empty")
    raise PrepareError(f"cannot detect the format of {value}: give it with --format")


def file_reader(value: str, args: argparse.Namespace, split: Optional[str] = None) -> Reader:
    """Return the reader of one value of --train, --valid, --test or --input."""
    document, summary = args.document_field, args.labels or args.summary_field
    kind = detect(value, args.format)
    if kind == "zip":
        members = zip_splits(value, args)
        if split not in members:
            raise PrepareError(f"{value} has no {split} split")
        return members[str(split)]
    if kind == "text":
        return text_pair(value)
    if kind == "csv":
        return Csv(value, document, summary)
    if kind == "parquet":
        return Parquet(value, document, summary)
    if kind == "arxiv":
        document, summary = document or "article_text", summary or "abstract_text"
    return JsonLines(value, document, summary)


def text_pair(value: str) -> TextPair:
    """Return the reader of ``documents.txt:summaries.txt``.

    The names may contain colons: the value is split where both files exist.
    """
    pieces = value.split(":")
    for cut in range(1, len(pieces)):
        documents, summaries = ":".join(pieces[:cut]), ":".join(pieces[cut:])
        if os.path.isfile(documents) and os.path.isfile(summaries):
            return TextPair(documents, summaries)
    raise PrepareError(f"{value}: give plain text as DOCUMENTS.txt:SUMMARIES.txt, two existing files")


def zip_splits(path: str, args: argparse.Namespace) -> Dict[str, Reader]:
    """Return the splits of an arXiv or PubMed zip: ``arxiv-dataset/train.txt``, ``val.txt``, ``test.txt``."""
    names = streams.zip_members(path)
    members: Dict[str, str] = {}
    for name in names:
        split = ZIP_MEMBERS.get(name.rsplit("/", 1)[-1])
        if split is not None and members.setdefault(split, name) != name:
            raise PrepareError(f"{path} has two members for {split}: {members[split]} and {name}")
    if "train" not in members:
        raise PrepareError("{} has no train.txt; it has: {}".format(path, ", ".join(names[:10]) or "nothing"))
    document, summary = args.document_field or "article_text", args.labels or args.summary_field or "abstract_text"
    return {split: JsonLines(path, document, summary, members[split]) for split in SPLITS if split in members}
