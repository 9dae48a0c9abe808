"""Exact percentiles of more numbers than fit into memory, over any number of processes, without sorting.

The bits of a float32, read as a whole number with the sign turned round, are in the order of its value. A
first pass counts the upper 16 bits, which tells in which of 65,536 ranges the wanted number is; a second pass
counts the lower 16 bits of what is in that range, which tells the number. Counts are whole numbers and add up
in any order, so the result does not depend on batches or processes.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from snn.errors import ConversionError

BINS = 1 << 16

# Adds a tensor of counts up over all processes.
Reduce = Callable[[Tensor], Tensor]


def alone(counts: Tensor) -> Tensor:
    """Return counts as they are: there is one process."""
    return counts


def rank_of(percent: float, count: int) -> int:
    """Return which number, from 1 in ascending order, is the percentile of so many.

    1 + round(percent / 100 (count - 1)), half to even. Source: the released code of one-hot M-LIF.
    """
    return 1 + round(0.01 * percent * (count - 1))


def ordered_bits(x: Tensor) -> Tensor:
    """Return for every number of x, as float32, a whole number below 2^32; these are in the order of values.

    Returns:
        Shape [n], int64.

    Raises:
        ConversionError: A number is not finite.
    """
    flat = x.detach().to(torch.float32).flatten()
    if not bool(torch.isfinite(flat).all()):
        raise ConversionError("calibration: found NaN or infinity, expected finite numbers; train again")
    bits = flat.contiguous().view(torch.int32).to(torch.int64)
    return torch.where(bits < 0, -bits - 1, bits + (1 << 31))


def number_of(bits: int) -> float:
    """Return the number whose ordered bits these are."""
    raw = bits - (1 << 31) if bits >= 1 << 31 else -bits - 1
    return float(torch.tensor([raw], dtype=torch.int64).to(torch.int32).view(torch.float32))


class StreamingPercentile:
    """A percentile of all numbers it is shown: twice, with `narrow` in between, unless they are few.

    Attributes:
        percent: From above 0 to 100.
        keep: So many numbers are kept, and need not be shown again.
        count: Numbers shown in the first pass, of all processes once narrowed.
    """

    def __init__(self, percent: float, *, keep: int = 0) -> None:
        self.percent, self.keep = percent, keep
        self._kept: list[Tensor] = []
        self.count = 0
        self._counts: Tensor | None = None
        self._upper: int | None = None
        self._rank = 0

    def add(self, x: Tensor) -> None:
        """Show numbers, any shape."""
        bits = ordered_bits(x)
        if self._upper is None:
            self.count += len(bits)
            keys = bits >> 16
            if self.count <= self.keep:
                self._kept.append(x.detach().to(torch.float32, copy=True))
            else:
                self._kept.clear()
        else:
            keys = bits[bits >> 16 == self._upper] & (BINS - 1)
        counts = torch.bincount(keys, minlength=BINS)
        self._counts = counts if self._counts is None else self._counts + counts

    def narrow(self, reduce: Reduce = alone) -> bool:
        """End the first pass: decide in which range the percentile is.

        Returns:
            Whether this process must show its numbers again; else it must not.

        Raises:
            ConversionError: Nothing was shown.
        """
        shown, totals = self.count, reduce(self._own_counts())
        self.count = int(totals.sum())
        if self.count == 0:
            raise ConversionError("calibration: found no numbers, expected at least one; give it samples")
        self._upper, self._rank = _find(totals, rank_of(self.percent, self.count))
        self._counts = None
        for x in self._kept:
            self.add(x)
        self._kept.clear()
        return shown > self.keep

    def result(self, reduce: Reduce = alone) -> float:
        """End the second pass: return the percentile.

        Raises:
            ConversionError: The second pass was not shown what the first was.
        """
        totals = reduce(self._own_counts())
        if self._upper is None or int(totals.sum()) < self._rank:
            raise ConversionError("percentile: expected narrow() and a second pass over the same numbers")
        lower, _ = _find(totals, self._rank)
        return number_of((self._upper << 16) + lower)

    def _own_counts(self) -> Tensor:
        return torch.zeros(BINS, dtype=torch.int64) if self._counts is None else self._counts


def _find(counts: Tensor, rank: int) -> tuple[int, int]:
    """Return the bin with the number of a rank from 1, and its rank inside that bin."""
    below = counts.cumsum(0)
    place = int((below < rank).sum())
    return place, rank - (int(below[place - 1]) if place else 0)


def percentile(x: Tensor, percent: float) -> float:
    """Return a percentile of the numbers of x, any shape."""
    found = StreamingPercentile(percent)
    found.add(x)
    found.narrow()
    found.add(x)
    return found.result()
