"""Progress of a stage: a progress bar on a terminal, otherwise log lines."""

import logging
import sys
import time
from typing import Optional

logger = logging.getLogger("prepare")
SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """Counts documents and shows the progress; a context manager."""

    def __init__(self, stage: str, total: Optional[int] = None):
        self.stage, self.total, self.count = stage, total, 0
        self._last = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            try:
                import tqdm
            except ImportError:
                return
            self._bar = tqdm.tqdm(total=total, desc=stage, unit=" documents", file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, documents: int) -> None:
        """Add a number of finished documents."""
        self.count += documents
        if self._bar is not None:
            self._bar.update(documents)
        elif time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            of_total = f" of {self.total}" if self.total else ""
            logger.info("%s: %d%s documents", self.stage, self.count, of_total)
