"""Stages of prepare.py, and the files and messages of a run."""

STAGES = ["read", "sentencepiece", "encode", "binarise", "report"]


def snapshot(dest):
    """Return the content of every output but fairseq's own log, which has folders and times."""
    files = [path for path in dest.rglob("*") if path.is_file() and ".prepare" not in path.parts]
    return {str(path.relative_to(dest)): path.read_bytes() for path in files if path.name != "preprocess.log"}


def kept(stderr):
    return [line.split()[1].rstrip(":") for line in stderr.split("\n") if line.endswith("kept")]
