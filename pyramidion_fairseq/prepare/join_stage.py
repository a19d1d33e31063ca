"""Join shards that several machines have read and encoded; the result is byte for byte that of one machine."""

from __future__ import annotations

import collections
import contextlib
import heapq
import os
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from .collector import POSITIONS, SKIPPED
from .corpus import SPLITS
from .encode_stage import count_unknown, load
from .errors import PrepareError
from .splitting import fill_empty_splits
from .stage_results import READ, fits, is_of_shard
from .vocabulary_stage import MODEL
from .workspace import STAMPS, Workspace

SIDES = ("source", "target")
#: Options that must be the same for all shards.
ALIKE = ("lowercase", "seed", "valid_fraction", "test_fraction")
MOST_OPEN = 400


class Part(NamedTuple):
    """The folder of a shard and the stamps of its finished stages."""

    folder: str
    number: int
    total: int
    read: Dict[str, Any]
    model: Dict[str, Any]
    encoded: Dict[str, Any]


def parts(folders: Sequence[str]) -> List[Part]:
    """Return the shards, sorted by number.

    Raises:
        PrepareError: a shard is missing, given twice or unfinished, or has another corpus, vocabulary or options.
    """
    found = sorted((_part(folder) for folder in folders), key=lambda part: part.number)
    first = found[0]
    for part in found:
        if part.total != first.total:
            raise PrepareError(
                f"{first.folder} is one of {first.total} shards, but {part.folder} is one of {part.total}"
            )
    numbers = collections.Counter(part.number for part in found)
    twice = [part.folder for part in found if numbers[part.number] > 1]
    if twice:
        raise PrepareError(f"{' and '.join(twice)} are the same shard: give each shard once")
    missing = [f"{number}/{first.total}" for number in range(1, first.total + 1) if number not in numbers]
    if missing:
        raise PrepareError(
            f"shards are missing: {', '.join(missing[:10])}; prepare them with --shard and give all shards to --join"
        )
    for part in found[1:]:
        _check_alike(first, part)
    return found


def _part(folder: str) -> Part:
    if not os.path.isdir(os.path.join(folder, STAMPS)):
        raise PrepareError(f"{folder} was not made by prepare.py --shard")
    space = Workspace(folder)
    stamps = {stage: space.finished(stage) for stage in ("read", "sentencepiece", "encode")}
    for stage, stamp in stamps.items():
        if stamp is None:
            raise PrepareError(f"{folder}: stage {stage} is not finished: run this shard's command again")
    read = stamps["read"]
    result = read["result"] if read else {}
    if read is None or not fits(result, {**READ, "shard": is_of_shard}):
        raise PrepareError(f"{folder} is not a shard: it was made without --shard")
    shard = result["shard"]
    return Part(folder, shard["number"], shard["total"], read, stamps["sentencepiece"] or {}, stamps["encode"] or {})


def _check_alike(first: Part, other: Part) -> None:
    if first.model["digest"] != other.model["digest"]:
        raise PrepareError(
            f"{first.folder} and {other.folder} have different vocabularies: prepare all shards with one --spm-model"
        )
    mine, theirs = first.read["result"], other.read["result"]
    for name in ALIKE:
        if mine["shard"]["options"].get(name) != theirs["shard"]["options"].get(name):
            raise PrepareError(
                f"{first.folder} and {other.folder} were prepared with different --{name.replace('_', '-')}"
            )
    if mine["shard"]["records"] != theirs["shard"]["records"]:
        raise PrepareError(
            f"{first.folder} and {other.folder} are shards of different corpora, with "
            f"{sum(mine['shard']['records'].values())} and {sum(theirs['shard']['records'].values())} records"
        )
    if mine["shard"].get("fields") != theirs["shard"].get("fields"):
        raise PrepareError(
            f"{first.folder} and {other.folder} have documents and summaries from different fields: prepare all "
            "shards with the same --document-field and --summary-field"
        )


def join_stage(shards: Sequence[Part], folder: str) -> Dict[str, Any]:
    """Write ``text/``, ``encoded/`` and ``skipped.jsonl`` below ``folder``.

    Returns:
        ``read`` and ``encoded``: the results of the reading and the encoding stage.
    """
    if len(shards) > MOST_OPEN:
        raise PrepareError(f"cannot join {len(shards)} shards: at most {MOST_OPEN} can be open at once, use fewer")
    for kind in ("text", "encoded"):
        os.makedirs(os.path.join(folder, kind))
        for split in SPLITS:
            for side in SIDES:
                _merge(shards, split, f"{kind}/{split}.{side}", folder)
    _merge(shards, SKIPPED, SKIPPED, folder)
    results = [shard.read["result"] for shard in shards]
    documents = {split: sum(result["documents"].get(split, 0) for result in results) for split in SPLITS}
    about = results[0]["shard"]
    if about["hashed"]:
        options = about["options"]
        wanted = {"train": True, **{name: options[f"{name}_fraction"] > 0 for name in ("valid", "test")}}
        for kind in ("text", "encoded"):
            filled = fill_empty_splits(
                {split: os.path.join(folder, kind, split) for split in SPLITS}, documents, wanted
            )
        documents = filled
    for kind in ("text", "encoded"):
        for split in SPLITS:
            for side in SIDES if not documents[split] else ():
                os.unlink(os.path.join(folder, kind, f"{split}.{side}"))
    skipped: collections.Counter[str] = collections.Counter()
    for result in results:
        skipped.update(result["skipped"])
    sums = {name: sum(result[name] for result in results) for name in ("bad", "replaced")}
    counted = {split: count for split, count in documents.items() if count}
    load(os.path.join(shards[0].folder, MODEL))
    names = [f"{split}.{side}" for split in SPLITS for side in SIDES if split in counted]
    encoded = {name: _lengths(os.path.join(folder, "encoded", name)) for name in names}
    return {"read": {"documents": counted, "skipped": dict(skipped), **sums}, "encoded": encoded}


def _merge(shards: Sequence[Part], positions: str, name: str, folder: str) -> None:
    """Write the lines of all shards in the order of their records; a shard may lack the file."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(open(os.path.join(folder, name), "wb"))
        streams = []
        for shard in shards:
            path = os.path.join(shard.folder, name)
            if os.path.exists(path):
                where = stack.enter_context(open(os.path.join(shard.folder, POSITIONS, positions), "rb"))
                streams.append(_with_positions(where, stack.enter_context(open(path, "rb")), path))
        output.writelines(line for _, line in heapq.merge(*streams, key=lambda pair: pair[0]))


def _with_positions(positions: Any, lines: Any, path: str) -> Iterator[Tuple[Tuple[int, int], bytes]]:
    """Yield ((source, record), line)."""
    for line in lines:
        source, _, position = positions.readline().partition(b" ")
        try:
            yield (int(source), int(position)), line
        except ValueError:
            raise PrepareError(f"{path} was changed after it was written: run this shard's command again") from None


def _lengths(path: str) -> Dict[str, Any]:
    counts: collections.Counter[int] = collections.Counter()
    unknown = 0
    with open(path, encoding="utf-8", newline="\n") as stream:
        for line in stream:
            pieces = [piece for piece in line.rstrip("\n").split(" ") if piece]
            counts[len(pieces) + 1] += 1
            unknown += count_unknown(pieces)
    return {"lengths": {str(length): count for length, count in sorted(counts.items())}, "unknown": unknown}
