"""Uses of a convolution's weights: by every place of its input, and for every place of its output."""

from functools import cache

import torch
from torch import Tensor, nn

from snn.cost.nonzeros import Seen, count_uses, look_at, outer, places_used
from snn.errors import CostError

# Elements of a sample whose uses are remembered one by one, 2 MiB a shape; larger ones take long anyway.
EXPANDED = 1 << 19


def count_and_see(x: Tensor, uses: Tensor) -> tuple[Tensor, Seen]:
    """Return `count_uses` and `look_at` of x [N, C, H, W], by the fastest that can."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 0:
        # Numba takes long to import, and no GPU needs it.
        from snn.cost.nonzeros_cpu import count_and_look

        return count_and_look(x, uses)
    return count_uses(x, uses), look_at(x)


def sum_and_see(x: Tensor, uses: Tensor) -> tuple[Tensor | int, Seen]:
    """Return the sum of `count_uses`, and `look_at`, of x [N, C, H, W]; `uses` may be remembered for good."""
    if x.device.type == "cpu" and x.dtype == torch.float32 and 0 < x.numel() <= len(x) * EXPANDED:
        from snn.cost.nonzeros_cpu import sum_and_look

        return sum_and_look(x, uses)
    used, seen = count_and_see(x, uses)
    return used.sum(), seen


@cache
def once_each(height: int, width: int) -> Tensor:
    """Return the uses of a map whose every place is used once, shape [H, W], int32; not to be changed."""
    return torch.ones(height, width, dtype=torch.int32)


def uses_kept(conv: nn.Conv2d, x: Tensor, mask: Tensor, *, groups: int | None = None) -> Tensor:
    """Return how many uses of weights by elements of x that are not 0 are for outputs that a mask leaves in.

    Args:
        conv: The convolution.
        x: Its input, shape [N, C, H, W]; N is T * B, or B where it ran once for all steps of a picture.
        mask: Shape [T, B, C] or [T, B, C or 1, H, W]; 0 leaves an output out, of a picture in every step.
        groups: In place of the convolution's.

    Raises:
        CostError: The mask is for something else.
    """
    groups = conv.groups if groups is None else groups
    kept = mask.detach() != 0
    once = len(x) == kept.shape[1]
    kept = kept.any(dim=0) if once else kept.flatten(0, 1)
    kept = kept if kept.dim() == 4 else kept[:, :, None, None]
    height, width = (output_size(conv, axis, x.shape[2 + axis]) for axis in (0, 1))
    shape = (len(x), conv.out_channels, height, width)
    if any(found not in (1, expected) for found, expected in zip(kept.shape, shape, strict=True)):
        raise CostError(f"mask: found shape {tuple(mask.shape)}, expected one for outputs {shape}")
    # How many elements that are not 0 an output of a group is made of: a convolution with ones.
    there = (x != 0).unflatten(1, (groups, -1)).sum(2).float()
    ones = there.new_ones(groups, 1, *conv.kernel_size)
    (top, bottom), (left, right) = _paddings(conv)
    with torch.autocast(x.device.type, enabled=False):
        padded = nn.functional.pad(there, (left, right, top, bottom))
        made_of = nn.functional.conv2d(padded, ones, None, conv.stride, 0, conv.dilation, groups)
    outputs = kept.expand(shape).unflatten(1, (groups, -1)).sum(2)
    return (made_of.round().to(torch.int64) * outputs).sum()


def uses_of(conv: nn.Conv2d, input_hw: tuple[int, int]) -> Tensor:
    """Return how many places of one output map each place of an input map reaches, shape [H, W], int32.

    Raises:
        CostError: The convolution pads with something other than zeros.
    """
    if conv.padding_mode != "zeros":
        raise CostError(
            f"padding_mode: found {conv.padding_mode!r}, expected 'zeros', whose uses can be counted"
        )
    rows, columns = (
        places_used(
            input_hw[axis], conv.kernel_size[axis], conv.stride[axis], before, conv.dilation[axis], after
        )
        for axis, (before, after) in enumerate(_paddings(conv))
    )
    return outer(rows, columns)


def output_size(conv: nn.Conv2d, axis: int, size: int) -> int:
    """Return height (axis 0) or width (axis 1) of the output for inputs of a size."""
    reach = conv.dilation[axis] * (conv.kernel_size[axis] - 1) + 1
    return (size + sum(_paddings(conv)[axis]) - reach) // conv.stride[axis] + 1


def _paddings(conv: nn.Conv2d) -> list[tuple[int, int]]:
    """Return the zeros before and after each axis, height first."""
    if isinstance(conv.padding, tuple):
        return [(padding, padding) for padding in conv.padding]
    if conv.padding == "valid":
        return [(0, 0), (0, 0)]
    # `same`: the odd zero comes after, as in torch.
    totals = [
        dilation * (kernel - 1) for dilation, kernel in zip(conv.dilation, conv.kernel_size, strict=True)
    ]
    return [(total // 2, total - total // 2) for total in totals]
