"""Building blocks of spiking networks: layers without state over time, and conv + norm + neuron.

Everything here is time first. A layer without state sees steps and samples merged, `[T * B, ...]`; in
training, batch normalisation therefore takes its statistics over all steps of all samples together. That is
what LT-SNN, TET and M-LIF call tdBN, without the threshold factor of the tdBN paper.
"""

import copy
from collections.abc import Iterable
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval

from snn.neurons.block import run_block
from snn.neurons.hooks import is_hooked
from snn.neurons.kernels.launch import Pool
from snn.neurons.memory import Memory
from snn.neurons.modules import Neuron
from snn.neurons.packing import packed_conv2d, spike_book
from snn.neurons.settings import NeuronSettings
from snn.processes import of_samples_here, shared_batch, whole_shape


class Stepwise(nn.Module):
    """Apply a module without state to every step: `[T, B, ...]` in, `[T, B, ...]` out."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Merge steps and samples, apply the module, split them again."""
        return self.module(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class StepDropout(nn.Module):
    """Dropout of features over time: `[T, B, F]` in and out, drawn anew in every forward pass.

    Attributes:
        p: Share of features that are dropped, from 0 to below 1; the others are divided by 1 - p.
        per: `step`: drawn for every step. `sample`: drawn once for all steps of a sample.
    """

    def __init__(self, p: float, *, per: Literal["step", "sample"] = "step") -> None:
        super().__init__()
        self.p, self.per = p, per

    def forward(self, x: Tensor) -> Tensor:
        """Return x with features dropped, in training; x itself in evaluation."""
        shared = shared_batch() is not None
        if not self.training or (self.per == "step" and not shared):
            return nn.functional.dropout(x, self.p, self.training)
        steps = x.shape[0] if self.per == "step" else 1
        ones = x.new_ones(steps, *whole_shape(x)[1:])
        return x * of_samples_here(nn.functional.dropout(ones, self.p))

    def extra_repr(self) -> str:
        """Return the share, and what it is drawn for."""
        return f"p={self.p}, per={self.per}"


class ConvNorm(nn.Module):
    """Convolution and batch normalisation, without neurons: what lies beside a residual path.

    Attributes:
        conv: The convolution, without a bias unless told.
        norm: Ordinary BatchNorm2d over steps and samples merged; an Identity once folded.
    """

    norm: nn.Module

    def __init__(
        self, in_channels: int, channels: int, *, kernel: int = 1, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=bias)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, *, book: tuple[float, ...] | None = None) -> Tensor:
        """Return the current, shape [T, B, channels, H / stride, W / stride]; arguments as ConvBlock's."""
        return self.norm(convolve(x, self.conv, book).flatten(0, 1)).unflatten(0, x.shape[:2])


class SpikingBlock(nn.Module):
    """What hands on spikes, and is handed the pool after it and the values its input can have.

    `forward(x, *, pool=None, book=None)` is that of `ConvBlock`.
    """

    def spike_book(self, pool: nn.Module | None = None) -> tuple[float, ...] | None:
        """Return every value that the block and a pool after it hand on; None where they may be others."""
        raise NotImplementedError


class Gated(NamedTuple):
    """What a gate decided, and what the convolution gave.

    Attributes:
        current: What the convolution gave, shape [T, B, C, H, W], not normalised.
        mask: Share of the normalised current let through: [T, B, C] for channels, [T, B, C or 1, H, W] for
            places; None lets all of it through.
        kept: The decisions, 1 to compute and 0 to leave out, shape [T, B, ...].
        loss: What training the gate adds to the loss, a scalar; None where it adds nothing.
    """

    current: Tensor
    mask: Tensor | None
    kept: Tensor
    loss: Tensor | None


class Gate(nn.Module):
    """What decides, from a block's input, which outputs of its convolution are computed; see `snn.sparsity`.

    Attributes:
        folds: Whether normalisation may be folded into the convolution: not where the gate looks into it.
    """

    folds = True

    def forward(
        self, x: Tensor, conv: nn.Conv2d, norm: nn.Module, *, book: tuple[float, ...] | None = None
    ) -> Gated:
        """Run a block's convolution on x [T, B, C, H, W] and decide; x, norm and book are the block's."""
        raise NotImplementedError


class ConvBlock(SpikingBlock):
    """Convolution, batch normalisation and neurons: frames or spikes in, spikes out.

    What follows the convolution runs as one where an executor can do that; a layer with a hook is called on
    its own, so that the hook sees what it expects.

    Attributes:
        conv: The convolution, 3x3 with padding 1 and a bias unless told.
        norm: Ordinary BatchNorm2d over steps and samples merged; an Identity once folded.
        current_pool: Layer for the normalised current, before the neurons; not there unless given.
        neuron: The neurons.
        gate: What leaves out part of the convolution; None computes all of it.
    """

    norm: nn.Module
    current_pool: nn.Module | None
    gate: Gate | None

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        neuron: NeuronSettings,
        kernel: int = 3,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        bias: bool = True,
        current_pool: nn.Module | None = None,
        draw: Literal["kaiming", "torch"] = "kaiming",
        executor: str = "auto",
    ) -> None:
        """Build the layers.

        Args:
            in_channels: Channels of x.
            channels: Channels of the spikes.
            neuron: The neurons.
            kernel: Height and width of the convolution.
            stride: Of the convolution.
            padding: Zeros on every side; None keeps the size where the stride is 1.
            groups: Of the convolution; `in_channels` makes it depth-wise.
            bias: Whether the convolution has one.
            current_pool: `Stepwise` layer for the normalised current, before the neurons.
            draw: How weights are drawn. `kaiming`: normal, fan out, for ReLU (LT-SNN's and TET's released
                VGGs). `torch`: torch's default (their ResNets).
            executor: What runs the neurons.
        """
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, groups=groups, bias=bias)
        self.norm = nn.BatchNorm2d(channels)
        self.current_pool = current_pool
        self.neuron = Neuron(neuron, channels=channels, executor=executor)
        self.gate = None
        if draw == "kaiming":
            nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        x: Tensor,
        *,
        pool: nn.Module | None = None,
        book: tuple[float, ...] | None = None,
        plus: Tensor | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        """Return the spikes, shape [T, B, channels, H / stride, W / stride], for x [T, B, C, H, W].

        Args:
            x: Frames or spikes.
            pool: Layer for the spikes, such as `Stepwise(nn.AvgPool2d(2))`; None leaves them as they are.
            book: Every value x can have, see `spike_book`: the convolution then keeps x in a few bits for its
                backward pass. None keeps x as it is.
            plus: Current added to the normalised one before the neurons, in the shape of the spikes before
                `pool`, such as what a shortcut carries. A gate leaves it as it is.
            memory: Has the membranes to start from and takes those after the last step; None starts at rest.
        """
        mask, norm = None, self.norm
        if self.gate is None:
            y = convolve(x, self.conv, book)
        else:
            y, mask, *_ = self.gate(x, self.conv, norm, book=book)
        of_places = mask is not None and mask.dim() == y.dim()
        if plus is not None or self.current_pool is not None or of_places:
            y, norm = norm(y.flatten(0, 1)).unflatten(0, x.shape[:2]), _NOTHING
            y, mask = let_through(y, mask), None
            y = y if self.current_pool is None else self.current_pool(y)
            y = y if plus is None else y + plus
        return run_and_pool(y, norm, self.neuron, pool=pool, mask=mask, memory=memory)

    def spike_book(self, pool: nn.Module | None = None) -> tuple[float, ...] | None:
        """Return every value that the block and a pool after it hand on; None where they may be others."""
        if is_hooked(self):
            return None
        return book_of(self.neuron, pool)


_NOTHING = nn.Identity()


def convolve(x: Tensor, conv: nn.Conv2d, book: tuple[float, ...] | None = None) -> Tensor:
    """Return the convolution of every step of x [T, B, C, H, W]; x is kept packed where a book is given.

    Steps that are one memory, as `expand` makes them of a picture, are convolved once: the same values, and a
    gradient that is summed over steps before the weights see it.
    """
    once = x.shape[0] > 1 and x.stride(0) == 0
    frames = x[0] if once else x.flatten(0, 1)
    current = conv(frames) if book is None else packed_conv2d(frames, conv, book)
    return current.expand(x.shape[0], *current.shape) if once else current.unflatten(0, x.shape[:2])


def let_through(current: Tensor, mask: Tensor | None) -> Tensor:
    """Return a current [T, B, C, H, W] times a mask of its first axes; of size 1 it holds for all."""
    if mask is None:
        return current
    return current * mask.to(current.dtype).reshape(*mask.shape, *[1] * (current.dim() - mask.dim()))


def run_and_pool(
    y: Tensor,
    norm: nn.Module,
    neuron: nn.Module,
    *,
    pool: nn.Module | None = None,
    mask: Tensor | None = None,
    memory: Memory | None = None,
) -> Tensor:
    """Normalise a current [T, B, C, H, W], let part of it through, run neurons, pool: as one where possible.

    Args:
        y: The current.
        norm: BatchNorm2d, or an Identity.
        neuron: The neurons; in an ANN, a layer of one argument that remembers nothing.
        pool: Layer for the spikes.
        mask: Share of the normalised current let through, shape [T, B, C].
        memory: Has the membrane to start from and takes that after the last step; None starts at rest.
    """
    if not isinstance(neuron, Neuron):
        spikes = neuron(let_through(norm(y.flatten(0, 1)).unflatten(0, y.shape[:2]), mask))
    elif is_hooked(neuron):
        current = let_through(norm(y.flatten(0, 1)).unflatten(0, y.shape[:2]), mask)
        spikes = neuron(current) if memory is None else neuron(current, memory)
    else:
        kind, before = pool_kind(pool), None if memory is None else memory.before(neuron)
        spikes, v = run_block(y, norm, neuron, pool=kind, v=before, mask=mask)
        if memory is not None:
            memory.keep(neuron, v)
        if kind != "none":
            return spikes
    return spikes if pool is None else pool(spikes)


def run_layers(layers: Iterable[nn.Module], x: Tensor, *, pack_spikes: bool) -> Tensor:
    """Call layers one after the other; a block is handed the pool after it, to run both as one.

    Args:
        layers: Blocks, and layers of one argument.
        x: Frames, shape [T, B, P, H, W].
        pack_spikes: Whether a block keeps the spikes of the block before in a few bits.
    """
    layers = list(layers)
    book, taken = None, None
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if layer is taken:
            continue
        if not isinstance(layer, SpikingBlock):
            x, book = layer(x), None
            continue
        taken = after if pool_kind(after) != "none" and not is_hooked(layer) else None
        x = layer(x, pool=taken, book=book)
        book = layer.spike_book(taken) if pack_spikes else None
    return x


def book_of(neuron: nn.Module, pool: nn.Module | None = None) -> tuple[float, ...] | None:
    """Return every value that neurons and a pool after them hand on, see `spike_book`; None where unknown."""
    if not isinstance(neuron, Neuron) or type(neuron).run is not Neuron.run or is_hooked(neuron):
        return None
    if pool is not None and pool_kind(pool) == "none":
        return None
    return spike_book(neuron.settings, pool=pool_kind(pool))


POOLS: dict[type[nn.Module], Pool] = {nn.AvgPool2d: "avg", nn.MaxPool2d: "max"}


def pool_kind(pool: nn.Module | None) -> Pool:
    """Return the pool over 2x2 that a layer is, and that may be computed without calling it; else `none`."""
    if type(pool) is not Stepwise or is_hooked(pool, pool.module):
        return "none"
    layer = pool.module
    if type(layer) not in POOLS:
        return "none"
    sizes = (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
    plain = all(size in (n, (n, n)) for size, n in zip(sizes, (2, 2, 0, 1), strict=True))
    other = (
        layer.ceil_mode,
        getattr(layer, "divisor_override", None),
        getattr(layer, "return_indices", False),
    )
    return POOLS[type(layer)] if plain and not any(other) else "none"


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Return a copy of a model for inference, with normalisations inside the convolutions before them.

    The copy is in evaluation mode and gives the same logits up to rounding, with one pass over memory less
    per block. It cannot be trained further. A normalisation with no convolution before it stays. Weights in
    few bits become what they are worth, times the normalisation's factor for each channel. Where a gate looks
    into the convolution, its normalisation stays.
    """
    folded = copy.deepcopy(model).eval()
    for module in list(folded.modules()):
        gate = module.gate if isinstance(module, ConvBlock) else None
        if gate is not None and not gate.folds:
            continue
        if isinstance(module, ConvBlock | ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(_plain(module.conv), module.norm)
            module.norm = nn.Identity()
    return folded


def _plain(conv: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with what its weights are worth, where they are computed; else itself."""
    if not parametrize.is_parametrized(conv):
        return conv
    # Not torch's remove_parametrizations: that works on the class, which copies of the model share.
    sizes = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, conv.dilation)
    options = {"groups": conv.groups, "bias": conv.bias is not None, "padding_mode": conv.padding_mode}
    plain = nn.utils.skip_init(nn.Conv2d, *sizes, **options, device=conv.weight.device)
    plain.weight = nn.Parameter(conv.weight.detach().clone())
    plain.bias = conv.bias
    return plain.train(conv.training)


Role = Literal["first", "inner", "shortcut", "gate", "last"]


def weight_layers(model: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear, Role]]:
    """Return every convolution and linear layer of a model: name, module, role; in the order of the model.

    Roles follow from the names that all models share. `last`: the `classifier`, or all of a detector's
    `head`. `shortcut`: a convolution beside a residual path. `gate`: part of what decides which channels or
    places are computed. `first`: of the others the first, which sees the frames. `inner`: the rest.
    """
    found: list[tuple[str, nn.Conv2d | nn.Linear, Role]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            has_first = any(role == "first" for _, _, role in found)
            found.append((name, module, _role(name.split("."), has_first=has_first)))
    return found


def _role(path: list[str], *, has_first: bool) -> Role:
    if path[-1] == "classifier" or path[0] == "head":
        return "last"
    if "gate" in path:
        return "gate"
    if "shortcut" in path:
        return "shortcut"
    return "inner" if has_first else "first"
