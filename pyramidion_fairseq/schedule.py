"""The pooling schedule: after which layers the encoder pools, and to what length."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .errors import PyramidionError

_ENTRY = re.compile(r"\s*(\d+)\s*:\s*(\d+)\s*")
#: Schedule that keeps half of the tokens after every layer, whatever their number (paper, Figure 1 D).
HALVE = "halve"


@dataclass(frozen=True)
class PoolingSchedule:
    """After which encoder layers (counted from 1) the sequence is pooled, and how many tokens are kept.

    >>> PoolingSchedule.parse("2:2048,3:512").input_lengths(8192, layers=6)
    (8192, 8192, 2048, 512, 512, 512)
    """

    steps: tuple[tuple[int, int], ...] = ()
    """((layer, tokens kept), ...), strictly monotone: later layers keep fewer tokens."""

    @classmethod
    def parse(cls, text: str) -> PoolingSchedule:
        """Parse "LAYER:LENGTH,LAYER:LENGTH,..."; an empty string never pools.

        Raises:
            PyramidionError: the text is malformed, layers do not ascend from 1, or lengths do not descend to 1 or
                more.
        """
        if not text.strip():
            return cls()
        matches = [_ENTRY.fullmatch(entry) for entry in text.split(",")]
        found = [match for match in matches if match]
        if len(found) < len(matches):
            raise PyramidionError(
                f'pooling schedule {text!r} is not of the form "LAYER:LENGTH,LAYER:LENGTH", e.g. "2:2048,3:512", nor '
                f'"{HALVE}"'
            )
        schedule = cls(tuple((int(m.group(1)), int(m.group(2))) for m in found))
        schedule._check_order(text)
        return schedule

    @classmethod
    def of(cls, text: str, length: int, layers: int) -> PoolingSchedule:
        """Parse a schedule as :meth:`parse` does, or "halve", which keeps half of the tokens after every layer, down
        to one.

        >>> str(PoolingSchedule.of("halve", 8192, layers=3))
        '1:4096,2:2048,3:1024'

        Args:
            text: the schedule.
            length: length of the longest document in tokens.
            layers: number of encoder layers.

        Raises:
            PyramidionError: see :meth:`parse`.
        """
        if text.strip() != HALVE:
            return cls.parse(text)
        steps = []
        for layer in range(1, layers + 1):
            if length == 1:
                break
            length = -(-length // 2)
            steps.append((layer, length))
        return cls(tuple(steps))

    def _check_order(self, text: str) -> None:
        layers, lengths = [layer for layer, _ in self.steps], [length for _, length in self.steps]
        if layers[0] < 1 or any(a >= b for a, b in zip(layers, layers[1:])):
            raise PyramidionError(f"pooling schedule {text!r}: layers must ascend, counted from 1")
        if lengths[-1] < 1 or any(a <= b for a, b in zip(lengths, lengths[1:])):
            raise PyramidionError(f"pooling schedule {text!r}: lengths must descend and be at least 1")

    def check_layers(self, layers: int) -> None:
        """Raise PyramidionError if the encoder has fewer layers than the schedule names."""
        if self.steps and self.steps[-1][0] > layers:
            raise PyramidionError(
                f'pooling schedule "{self}" pools after layer {self.steps[-1][0]}, '
                f"but the encoder has {layers} layers (--encoder-layers)"
            )

    def check_source(self, length: int) -> None:
        """Raise PyramidionError if the first pooling keeps more tokens than the longest document has."""
        if self.steps and self.steps[0][1] > length:
            layer, kept = self.steps[0]
            raise PyramidionError(
                f'pooling schedule "{self}" keeps {kept} tokens after layer {layer}, but documents have at most '
                f"{length} (--max-source-positions)"
            )

    def input_lengths(self, length: int, layers: int) -> tuple[int, ...]:
        """Return the number of tokens read by each layer for a document of ``length`` tokens."""
        lengths, kept = [], dict(self.steps)
        for layer in range(1, layers + 1):
            lengths.append(length)
            length = min(length, kept.get(layer, length))
        return tuple(lengths)

    def windows(self, length: int) -> dict[int, int]:
        """Return the tokens per slot at each pooling of a document of ``length`` tokens: ceil(n / k), keyed by k."""
        windows = {}
        for _, kept in self.steps:
            windows[kept] = max(1, -(-length // kept))
            length = min(length, kept)
        return windows

    def output_length(self, length: int) -> int:
        """Return the number of vectors that the decoder attends to for a document of ``length`` tokens."""
        return min([length, *(kept for _, kept in self.steps)])

    def __str__(self) -> str:
        return ",".join("{}:{}".format(*step) for step in self.steps)
