"""``pyramidion-classify``: a label with its probability for each document, in input order, at any length."""

from __future__ import annotations

import argparse
import json
import os
from collections import deque
from typing import Any, Iterator

from ..errors import PyramidionError
from ..text import Document
from ..utils import interrupts
from .common import (
    Parser,
    Progress,
    add_input_options,
    add_user_dir,
    check_output,
    count_documents,
    documents_of,
    import_user_dir,
    input_of,
    one_line_exit_and_log,
    open_whole_output,
    write_page,
)

COMMAND = "pyramidion-classify"
#: Input formats without JSON fields.
_OF_LINES = ("text", "document")
#: The largest number of tokens that --explain lists after each pooling.
LISTED = 1000


def build_parser() -> argparse.ArgumentParser:
    """Return the command's options."""
    parser = Parser(
        prog=COMMAND,
        description="Classify documents, or predict a number for each. The input is plain text (one document per "
        "line) or JSON lines. Documents longer than the model's input are truncated. An empty document gets no label.",
    )
    group = parser.add_argument_group("model")
    group.add_argument("--checkpoint", metavar="CKPT", required=True, help="checkpoint of a classifier, or its folder")
    group.add_argument("--head", metavar="NAME", help="classification head to use if the checkpoint has several")
    group.add_argument("--data", metavar="DIR", help="folder with input0/dict.txt (default: stored in the checkpoint)")
    group.add_argument(
        "--sentencepiece-model", metavar="FILE", help="default: sentencepiece.model next to the checkpoint or data"
    )
    add_user_dir(group)
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if available)")
    kinds = "text: one document per line; document: the whole file; jsonl; auto: detect jsonl or text (default: auto)"
    add_input_options(parser, kinds)
    group = parser.add_argument_group("labels")
    group.add_argument("--second-field", metavar="NAME", help="JSON field with the second text of a pair")
    group.add_argument("--output", default="-", metavar="FILE", help="output file (default: -, standard output)")
    formats = "text: label and probability, or the number; jsonl: all labels with probabilities; html: a page"
    group.add_argument(
        "--format", default="text", choices=("text", "jsonl", "html"), help=formats + " (default: text)"
    )
    explained = "with --format jsonl: include the tokens that each pooling kept, with weights (the page always does)"
    group.add_argument("--explain", action="store_true", help=explained)
    group.add_argument("--overwrite", action="store_true", help="overwrite an existing output file")
    group.add_argument("--batch-size", type=int, default=8, help="maximum documents per batch (default: 8)")
    group.add_argument("--max-tokens", type=int, help="maximum padded tokens per batch (default: no limit)")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    with one_line_exit_and_log(COMMAND):
        args = build_parser().parse_args(argv)
        if args.explain and args.format != "jsonl":
            raise PyramidionError("--explain requires --format jsonl; --format html always shows the kept tokens")
        check_output(args.output, args.overwrite, source=input_of(args))
        documents = _documents(args)
        from .. import registered  # noqa: F401 -- takes a second or two, so --help does not import it
        from ..apps.classify.loading import load_classifier

        import_user_dir(args.user_dir)
        classifier = load_classifier(args.checkpoint, args.head, args.data, args.sentencepiece_model, args.device)
        interrupts.raise_swallowed()
        progress = Progress(count_documents(args))
        noted: deque[Document] = deque()
        sizes = {"batch_size": args.batch_size, "max_tokens": args.max_tokens, "progress": progress}
        shows = args.explain or args.format == "html"
        predictions = classifier.classify(_note(documents, noted), shows, **sizes)
        if args.format == "html":
            _write_page(args, predictions, noted, classifier)
        else:
            with open_whole_output(args.output) as output:
                for number, prediction in enumerate(predictions):
                    output.write(_line(prediction, number, noted.popleft(), args, classifier) + "\n")
                    output.flush()
        progress.tell()


def _documents(args: argparse.Namespace) -> Iterator[Any]:
    """Return documents or pairs of documents; the first is read at once, so that bad input fails early."""
    if args.second_field is None:
        return documents_of(args)
    given = input_of(args)  # read twice, so it cannot be a pipe
    if given == "-" or (os.path.exists(given) and not os.path.isfile(given)) or args.input_format in _OF_LINES:
        raise PyramidionError("--second-field requires a JSON lines file: use --input FILE")
    args.input_format = "jsonl"  # plain text has no fields
    from ..text.reading import read_documents

    documents = documents_of(args)
    return zip(documents, read_documents(args.input, args.input_format, args.second_field))


def _note(documents: Iterator[Any], noted: deque[Document]) -> Iterator[Any]:
    """Yield the documents and append the first of each pair to ``noted``; predictions come in the same order."""
    for document in documents:
        noted.append(document[0] if isinstance(document, tuple) else document)
        yield document


def _line(prediction: Any, number: int, document: Document, args: argparse.Namespace, classifier: Any) -> str:
    if args.format == "text":
        if prediction.value is not None:
            return f"{prediction.value:.6g}"
        return f"{prediction.label}\t{prediction.probabilities[0][1]:.6f}" if prediction.label is not None else ""
    row: dict[str, Any] = {"index": number}
    if document.article_id is not None:
        row["article_id"] = document.article_id
    if classifier.labels is None:
        row["value"] = prediction.value
    else:
        row.update(label=prediction.label, probabilities=dict(prediction.probabilities))
    row.update(tokens=prediction.tokens, cut=prediction.cut)
    if args.explain:
        row["poolings"] = [_pooling(stage, prediction.encoded, classifier) for stage in prediction.kept_tokens]
    return json.dumps(row, ensure_ascii=False)


def _pooling(stage: Any, encoded: Any, classifier: Any) -> dict[str, Any]:
    """Return the tokens that a pooling kept, in document order: the :data:`LISTED` with the largest weights."""
    kept = [index for index, weight in enumerate(stage.weights.tolist()) if weight > 0]
    listed = sorted(sorted(kept, key=lambda index: -stage.weights[index])[:LISTED])
    return {
        "stage": stage.stage,
        "vectors": stage.vectors,
        "survivors": len(kept),
        "tokens": [
            {
                "position": index,
                "token": classifier.dictionary[encoded.tokens[index]],
                "word": encoded.words.words[encoded.token_words[index]] if encoded.token_words[index] >= 0 else None,
                "weight": round(float(stage.weights[index]), 6),
                "vector": int(stage.slots[index]),
            }
            for index in listed
        ],
    }


def _write_page(args: argparse.Namespace, predictions: Any, noted: deque[Document], classifier: Any) -> None:
    from ..apps.explain.classification import explain_prediction
    from ..apps.explain.page import render_many

    pages = []
    for prediction in predictions:
        document = noted.popleft()
        if prediction.encoded is not None:
            pages.append(explain_prediction(prediction, document.title, classifier.model))
    if not pages:
        raise PyramidionError("no document contains any text")
    page = render_many(pages)
    write_page(args.output, page)


if __name__ == "__main__":
    main()
