"""Where training is, said at least every half minute where no bar shows it."""

from __future__ import annotations

import logging
import sys
import time

from fairseq.logging import metrics

logger = logging.getLogger(__name__)

SECONDS = 30
#: What a line tells of the updates since fairseq's last one, where it is known.
LOGGED = ("loss", "src_wps", "ups", "gb_peak")


class Heartbeat(logging.Filter):
    """Logs progress when fairseq has logged nothing for :data:`SECONDS`; fairseq logs every ``--log-interval``.

    Nothing is added where standard error is a terminal, on which fairseq shows a bar.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()
        # fairseq's bars log with this logger, under the name of what they tell of: "train_inner", "valid".
        bars = logging.getLogger("fairseq.logging.progress_bar")
        bars.filters = [other for other in bars.filters if not isinstance(other, Heartbeat)]
        bars.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Take note of a record of fairseq's, and let it pass."""
        self.last = time.monotonic()
        return True

    def beat(self, update: int) -> None:
        """Log a line, if it is time to.

        Args:
            update: updates so far.
        """
        if time.monotonic() - self.last < SECONDS or sys.stderr.isatty():
            return
        self.last = time.monotonic()
        values = {} if metrics.get_meters("train_inner") is None else metrics.get_smoothed_values("train_inner")
        figures = [f"{name} {values[name]:.4g}" for name in LOGGED if isinstance(values.get(name), (int, float))]
        logger.info(" | ".join([f"training: {update:,} updates done", *figures]))
