"""Stages of prepare.py, and what a folder holds after one of them."""

STAGES = ["read", "sentencepiece", "encode", "binarise", "report"]


def snapshot(dest):
    """Content of every output; fairseq's own log names folders and times."""
    files = [path for path in dest.rglob("*") if path.is_file() and ".prepare" not in path.parts]
    return {str(path.relative_to(dest)): path.read_bytes() for path in files if path.name != "preprocess.log"}


def kept(stderr):
    return [line.split()[1].rstrip(":") for line in stderr.split("\n") if line.endswith("kept")]
