"""Log lines with the progress of training at least every half minute, unless a progress bar shows it."""

from __future__ import annotations

import logging
import sys
import time

from fairseq.logging import metrics

logger = logging.getLogger(__name__)

SECONDS = 30
#: Meters that a line shows, averaged since the last line of fairseq, if they are known.
LOGGED = ("loss", "src_wps", "ups", "gb_peak")


class Heartbeat(logging.Filter):
    """Logs progress when fairseq has logged nothing for :data:`SECONDS`; fairseq logs every ``--log-interval``.

    Nothing is logged if standard error is a terminal, on which fairseq shows a progress bar.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()
        # fairseq's progress bars log to this logger.
        bars = logging.getLogger("fairseq.logging.progress_bar")
        bars.filters = [other for other in bars.filters if not isinstance(other, Heartbeat)]
        bars.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the time of a record of fairseq, and accept it."""
        self.last = time.monotonic()
        return True

    def beat(self, update: int) -> None:
        """Log a line if none was logged for :data:`SECONDS`.

        Args:
            update: number of updates so far.
        """
        if time.monotonic() - self.last < SECONDS or sys.stderr.isatty():
            return
        self.last = time.monotonic()
        values = {} if metrics.get_meters("train_inner") is None else metrics.get_smoothed_values("train_inner")
        figures = [f"{name} {values[name]:.4g}" for name in LOGGED if isinstance(values.get(name), (int, float))]
        logger.info(" | ".join([f"training: {update:,} updates done", *figures]))
