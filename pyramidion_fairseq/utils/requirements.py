"""The versions that the package works with, said in one line when it is imported with others."""

from __future__ import annotations

import re
from importlib import metadata

#: (distributions, of which one is needed; oldest version; first version that does not work, or None). As in setup.py.
#: Before 2.6, torch runs TorchScript programs that it was told not to (CVE-2025-32434).
REQUIRED = [
    (("torch",), "2.6", None),
    (("numpy",), "1.21.3", None),
    (("fairseq-fixed", "fairseq"), "0.12.2", "0.13"),
    (("omegaconf",), "2.0.5", None),
    (("sentencepiece",), "0.1.96", None),
]
#: Options of pip for a distribution. fairseq builds with the torch that is there, and asks for torchaudio, for speech,
#: which breaks transformers where it was built for another torch.
OPTIONS = {"fairseq-fixed": "--no-deps --no-build-isolation "}


class VersionError(ImportError):
    """A package that this one needs is missing or of a version that does not work."""


def check() -> None:
    """Compare what is installed with :data:`REQUIRED`; imports nothing.

    Raises:
        VersionError: with one line that says what to install.
    """
    for names, oldest, broken in REQUIRED:
        found = next(((name, version) for name in names for version in [_version(name)] if version), None)
        wanted = f"{names[0]}>={oldest}" + (f",<{broken}" if broken else "")
        how = f"pip install {OPTIONS.get(names[0], '')}'{wanted}'"
        if found is None:
            raise VersionError(f"pyramidion_fairseq needs {wanted}, which is not installed: {how}")
        name, version = found
        if _parts(version) < _parts(oldest) or (broken and _parts(version) >= _parts(broken)):
            raise VersionError(f"pyramidion_fairseq needs {wanted}, but {name} {version} is installed: {how}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _parts(version: str) -> tuple[int, ...]:
    """Return the leading numbers: "2.13.0+cpu" -> (2, 13, 0); what follows, such as rc1, does not count."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    assert numbers is not None, version
    return tuple(int(part) for part in numbers.group().split("."))
