"""Activations of few levels, for networks with numbers in place of spikes: powers of two, or evenly spaced.

    y = (x - minimum) / (maximum - minimum)
    log, lvl: 2^e with e = round(log2 y), half to even; above the largest level that level, below the least 0
    uniform:  round(y (2^bits - 1)) / (2^bits - 1), clipped to 0 to 1
    out = y (maximum - minimum) + minimum

`log` keeps e from -(2^bits - 2) to 0, `lvl` from -(bits - 1) to 0. Going backward the gradient passes
unchanged, beyond the range as well. Source: one-hot M-LIF, IEEE Access 2025, and its released code. A level
begins at its geometric middle 2^(e - 1/2), where a lane of an M-LIF begins at its own value: the two networks
are not the same function.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from snn.errors import QuantError, did_you_mean

LevelKind = Literal["log", "lvl", "uniform"]
MeasuredOver = Literal["all", "batches"]

MOST_BITS = 8
# Shares up to this become full scale in the release, by a guard against the logarithm of 0.
PUBLISHED_TINY = 1e-9


@dataclass(frozen=True)
class LevelSettings:
    """Levels of the activations of a quantised ANN, and how their range is measured.

    Attributes:
        kind: `log`: 2^bits - 1 powers of two. `lvl`: `bits` powers of two. `uniform`: 2^bits - 1 steps.
        bits: 1 to 8.
        percentile: Of a layer's activations, zeros among them, that becomes the largest level.
        samples: Training samples, evenly spaced, that it is measured on before every epoch; none takes all.
        over: What it is the percentile of. `all`: all that was measured. `batches`: each batch, and the
            largest counts (M-LIF's release).
        published: As released: shares up to 1e-9 become full scale, and `uniform` does not clip.
    """

    kind: LevelKind = "log"
    bits: int = 2
    percentile: float = 99.7
    samples: int | None = None
    over: MeasuredOver = "all"
    published: bool = False

    def __post_init__(self) -> None:
        for name, known in (("kind", get_args(LevelKind)), ("over", get_args(MeasuredOver))):
            found = getattr(self, name)
            if found not in known:
                hint = did_you_mean(found, known)
                raise QuantError(f"{name}: found {found!r}, expected one of {', '.join(known)}{hint}")
        if type(self.bits) is not int or not 1 <= self.bits <= MOST_BITS:
            raise QuantError(f"bits: found {self.bits!r}, expected a whole number from 1 to {MOST_BITS}")
        if self.samples is not None and self.samples < 1:
            raise QuantError(f"samples: found {self.samples}, expected at least 1, or none")
        if not 0 < self.percentile <= 100:
            raise QuantError(f"percentile: found {self.percentile}, expected above 0 and at most 100")

    @property
    def exponents(self) -> tuple[int, int]:
        """Least and largest exponent of the powers of two; of `log` and `lvl` alone."""
        return (-(2**self.bits - 2) if self.kind == "log" else -(self.bits - 1)), 0


def to_levels(x: Tensor, minimum: Tensor, maximum: Tensor, settings: LevelSettings) -> Tensor:
    """Return x at its levels, any shape; the gradient passes unchanged.

    Args:
        x: Activations.
        minimum: Lower end of the range, a scalar.
        maximum: Upper end, a scalar above it.
        settings: The levels.
    """
    return _Levels.apply(x, minimum, maximum, settings)


class _Levels(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor, minimum: Tensor, maximum: Tensor, settings: LevelSettings) -> Tensor:
        share = (x - minimum) / (maximum - minimum)
        level = _even(share, settings) if settings.kind == "uniform" else _power(share, settings)
        return level * (maximum - minimum) + minimum

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return grad, None, None, None


def _even(share: Tensor, settings: LevelSettings) -> Tensor:
    steps = 2**settings.bits - 1
    kept = share if settings.published else share.clamp(0, 1)
    return torch.round(kept * steps) / steps


def _power(share: Tensor, settings: LevelSettings) -> Tensor:
    least, largest = settings.exponents
    above = share > 0
    exponent = torch.round(torch.log2(torch.where(above, share, 1.0))).clamp(max=largest)
    level = torch.where(above & (exponent >= least), torch.exp2(exponent), 0.0)
    if settings.published:
        level = torch.where(above & (share <= PUBLISHED_TINY), 1.0, level)
    return level


class LevelReLU(nn.Module):
    """ReLU, then levels whose range was measured.

    Attributes:
        settings: The levels.
        minimum, maximum: The range, scalar buffers; both 0 until it is measured.
        transparent: Whether activations pass as they are, as while their range is measured.
    """

    minimum: Tensor
    maximum: Tensor

    def __init__(self, settings: LevelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.transparent = False
        self.register_buffer("minimum", torch.zeros(()))
        self.register_buffer("maximum", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Return x at its levels.

        Raises:
            QuantError: The range has not been measured.
        """
        x = torch.relu(x)
        if self.transparent:
            return x
        # On a GPU this would wait for all work queued there.
        if self.maximum.device.type == "cpu" and not bool(self.maximum > self.minimum):
            raise QuantError(
                f"range of activations: found {float(self.minimum):g} to {float(self.maximum):g}, expected "
                "one above 0; measure it with snn.conversion.calibration.calibrate first"
            )
        return to_levels(x, self.minimum, self.maximum, self.settings)

    def extra_repr(self) -> str:
        """Return the levels and their range."""
        return f"{self.settings.kind}, bits={self.settings.bits}, up to {float(self.maximum):.4g}"


def from_unmeasured(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Return weights of an ANN for the same network with levels, whose ranges are not measured yet."""
    ranges = {
        f"{name}.{key}": value
        for name, module in network.named_modules()
        if isinstance(module, LevelReLU)
        for key, value in module.state_dict().items()
    }
    return ranges | dict(weights)
