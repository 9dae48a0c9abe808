"""How long results took, in memory that does not grow: a histogram of logarithmic bins for each part.

Bins grow by 1 % from a microsecond, much as in Gil Tene's HdrHistogram, so that a percentile is off by
1 % at most; the largest value is exact. Percentiles are nearest ranks: the smallest value that a share of all
values does not exceed.
"""

import math
from typing import Any

import numpy as np

GROWTH = 1.01
LEAST_S = 1e-6
# Up to three hours.
BINS = math.ceil(math.log(1e4 / LEAST_S) / math.log(GROWTH))

# The work on a window, in its order. What a result waited for others is not among them, nor is tracking and
# writing behind it.
PARTS = ("decode", "encode", "forward", "nms")
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


class Histogram:
    """Seconds, counted in bins.

    Attributes:
        counts: Values in each bin, int64; bin 0 has those up to a microsecond, bin i those above the edge of
            the bin before it, up to LEAST_S * GROWTH**i.
        count: How many values.
        total_s: Their sum.
        longest_s: The largest.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS + 1, np.int64)
        self.count = 0
        self.total_s = self.longest_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one value, 0 or more."""
        place = 0
        if seconds > LEAST_S:
            place = min(math.ceil(math.log(seconds / LEAST_S) / math.log(GROWTH)), BINS)
        self.counts[place] += 1
        self.count += 1
        self.total_s += seconds
        self.longest_s = max(self.longest_s, seconds)

    def percentile(self, percent: float) -> float:
        """Return the upper edge of the bin of a percentile, in seconds; 0 where there is no value."""
        if not self.count:
            return 0.0
        rank = max(1, math.ceil(self.count * percent / 100))
        place = int(np.searchsorted(np.cumsum(self.counts), rank))
        return min(LEAST_S * GROWTH**place, self.longest_s)

    def as_dict(self) -> dict[str, Any]:
        """Return percentiles, mean and the largest value in milliseconds; nothing without a value."""
        if not self.count:
            return {}
        found = {name: 1e3 * self.percentile(percent) for name, percent in PERCENTILES.items()}
        return found | {"max": 1e3 * self.longest_s, "mean": 1e3 * self.total_s / self.count}


class Latencies:
    """What every window took.

    Attributes:
        parts: Of `PARTS`, and `wait`: for windows before it. In that order.
        latency: From the end of a window to its boxes.
        age: Mean age of what a result tells: half of the window, and the latency.
        misses: Windows whose boxes came later than allowed.
    """

    def __init__(self) -> None:
        self.parts = {name: Histogram() for name in (*PARTS, "wait")}
        self.latency, self.age = Histogram(), Histogram()
        self.misses = 0

    def add(self, parts: dict[str, float], *, latency_s: float, span_s: float, deadline_s: float) -> None:
        """Count a window.

        Args:
            parts: Seconds by name, of PARTS.
            latency_s: From its end to its boxes.
            span_s: Its length, in seconds of the machine's clock.
            deadline_s: The latency allowed.
        """
        for name in PARTS:
            self.parts[name].add(parts[name])
        self.parts["wait"].add(max(0.0, latency_s - sum(parts.values())))
        self.latency.add(latency_s)
        self.age.add(span_s / 2 + latency_s)
        self.misses += latency_s > deadline_s

    def as_dict(self) -> dict[str, Any]:
        """Return all as plain JSON types."""
        return {
            "latency_ms": self.latency.as_dict(),
            "parts_ms": {name: histogram.as_dict() for name, histogram in self.parts.items()},
            "age_ms": self.age.as_dict(),
            "deadline_misses": self.misses,
        }
