"""Required versions of other packages, checked on import with a one-line error."""

from __future__ import annotations

import re
from importlib import metadata

#: ({distribution: oldest version}, one of which is required; first incompatible version, or None). setup.py cannot
#: import this list and repeats it, as do the docs; a test compares them. Before 2.6, ``weights_only`` of torch runs
#: TorchScript programs (CVE-2025-32434). fairseq 0.12.2 is for Python before 3.11; fairseq-fixed is the same code for
#: later versions.
REQUIRED: list[tuple[dict[str, str], str | None]] = [
    ({"torch": "2.6"}, None),
    ({"numpy": "1.21.3"}, None),
    ({"fairseq-fixed": "0.12.3.1", "fairseq": "0.12.2"}, "0.13"),
    ({"omegaconf": "2.0.5"}, None),
    ({"sentencepiece": "0.1.96"}, None),
]
#: pip options by distribution. fairseq builds with the installed torch. It requires torchaudio, for speech, which
#: breaks transformers if built for another torch.
OPTIONS = {"fairseq-fixed": "--no-deps --no-build-isolation "}


class VersionError(ImportError):
    """A required package is missing or has an incompatible version."""


def check_versions() -> None:
    """Compare the installed versions with :data:`REQUIRED`, without importing packages.

    Raises:
        VersionError: one line that says what to install.
    """
    for oldest, broken in REQUIRED:
        first = next(iter(oldest))
        found = installed(*oldest)
        wanted = f"{first}>={oldest[first]}" + (f",<{broken}" if broken else "")
        how = f"pip install {OPTIONS.get(first, '')}'{wanted}'"
        if found is None:
            raise VersionError(f"pyramidion_fairseq needs {wanted}, which is not installed: {how}")
        name, version = found
        if _version_numbers(version) < _version_numbers(oldest[name]) or (
            broken and _version_numbers(version) >= _version_numbers(broken)
        ):
            raise VersionError(f"pyramidion_fairseq needs {wanted}, but {name} {version} is installed: {how}")


def installed(*names: str) -> tuple[str, str] | None:
    """Return (name, version) of the first of these distributions that is installed, or None."""
    for name in names:
        try:
            return name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _version_numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: "2.13.0+cpu" -> (2, 13, 0). Suffixes such as rc1 are ignored."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    assert numbers is not None, version
    return tuple(int(part) for part in numbers.group().split("."))
