"""Validate results of stages that are read from their stamps, as the files may have been changed."""

from typing import Any, Dict

#: The largest valid count.
MOST = 2**48


def is_count(value: Any) -> bool:
    """Return whether the value is a valid count."""
    return type(value) is int and 0 <= value <= MOST


def are_counts(value: Any) -> bool:
    """Return whether the value is a dictionary of counts."""
    return type(value) is dict and all(map(is_count, value.values()))


def are_splits(value: Any) -> bool:
    """Return whether the value is a dictionary of documents per split, including train."""
    return are_counts(value) and "train" in value


def is_text(value: Any) -> bool:
    """Return whether the value is printable text without control characters, except line feeds."""
    return type(value) is str and all(line.isprintable() for line in value.split("\n"))


def is_of_lengths(value: Any) -> bool:
    """Return whether the value is the encoding stage's result for a file: lengths and unknown tokens."""
    if type(value) is not dict or not are_counts(value.get("lengths")) or not is_count(value.get("unknown")):
        return False
    return all(len(length) < 16 and length.isdecimal() and length.isascii() for length in value["lengths"])


def is_of_shard(value: Any) -> bool:
    """Return whether the value is a valid description of a shard."""
    if type(value) is not dict or not are_counts(value.get("records")) or type(value.get("options")) is not dict:
        return False
    fractions = [value["options"].get(name) for name in ("valid_fraction", "test_fraction")]
    sound = all(type(fraction) in (int, float) for fraction in fractions) and type(value.get("hashed")) is bool
    number, total = value.get("number"), value.get("total")
    return sound and type(number) is int and type(total) is int and 1 <= number <= total <= MOST


def is_encoded(value: Any) -> bool:
    """Return whether the value is the encoding stage's result for several files."""
    return type(value) is dict and all(map(is_of_lengths, value.values()))


def is_read(value: Any) -> bool:
    """Return whether the value is the reading stage's result."""
    return fits(value, READ)


READ = {"documents": are_splits, "skipped": are_counts, "bad": is_count, "replaced": is_count}
JOINED = {"read": is_read, "encoded": is_encoded}
VOCABULARY = {"pieces": is_count}
BINARISED = {"dictionary": is_count}
REPORT = {"table": is_text}


def fits(result: Any, form: Dict[str, Any]) -> bool:
    """Return whether a result has all keys of ``form`` and each value passes the check of its key."""
    return type(result) is dict and all(name in result and check(result[name]) for name, check in form.items())
