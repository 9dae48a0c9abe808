"""Count the operations of a network while it runs, from what its layers are really given.

Counting waits before convolutions, linear layers and attention products; neurons stay fused with what is
around them. An operation is one use of a weight: for an input element that is not 0, as many as the outputs
it reaches, with stride, padding, dilation, groups and borders as they are. Where a channel gate masks the
current of a conv block, uses for channels that are masked do not count.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from snn.cost.convolution import count_and_see, once_each, output_size, sum_and_see, uses_kept, uses_of
from snn.cost.nonzeros import Seen, Values, look_at
from snn.layers import ConvBlock, Gated, weight_layers
from snn.models.spike_driven_transformer import KeyValueSum
from snn.models.spikformer import SpikeAttention
from snn.sparsity.gates import PartialSumGate, SpatialGate, SqueezeGate


@dataclass
class LayerCount:
    """What was counted at one layer, over all samples and steps.

    Attributes:
        dense: Multiply-accumulates where nothing is left out, those with the zeros around a map too.
        inputs: Elements of the input.
        seen: What the values of the input are.
        effective_sum, unmasked_sum: The numbers behind `effective` and `unmasked`; on a GPU tensors there, so
            that nothing waits for them.
    """

    dense: int = 0
    inputs: int = 0
    seen: Seen | None = None
    effective_sum: Tensor | int = 0
    unmasked_sum: Tensor | int = 0

    @property
    def effective(self) -> int:
        """Uses of weights by input elements that are not 0, for outputs that are not masked."""
        return int(self.effective_sum)

    @property
    def unmasked(self) -> int:
        """The same before masks."""
        return int(self.unmasked_sum)

    @property
    def values(self) -> Values:
        """What the values of the input have in common."""
        return Values.NONE if self.seen is None else self.seen.values

    def add(
        self,
        *,
        effective: Tensor | int,
        unmasked: Tensor | int = 0,
        seen: Seen | None = None,
        dense: int = 0,
        inputs: int = 0,
    ) -> None:
        """Add what one call of the layer was given."""
        self.dense += dense
        self.inputs += inputs
        # Not in place: a tensor that is added may be kept elsewhere.
        self.effective_sum = self.effective_sum + effective
        self.unmasked_sum = self.unmasked_sum + unmasked
        if seen is not None:
            self.seen = seen if self.seen is None else self.seen.also(seen)


@dataclass
class OperationCounter:
    """Operations of all layers so far, and over how much they were counted.

    Attributes:
        samples: Samples seen.
        steps: Steps seen, those of all samples together.
        layers: What was counted, by name of the layer.
    """

    samples: int = 0
    steps: int = 0
    layers: dict[str, LayerCount] = field(default_factory=dict)
    _waiting: dict[str, tuple[nn.Conv2d, Tensor, Tensor | int]] = field(default_factory=dict)
    # Uses of the places of a map, and products for a sample, of a layer given maps of a height and width.
    _known: dict[tuple[str, int, int], tuple[Tensor, int]] = field(default_factory=dict)

    def see_convolution(self, name: str, conv: nn.Conv2d, x: Tensor, *, gated: bool) -> None:
        """Count a convolution of x [N, C, H, W]; what a gate leaves of it, `see_mask` adds."""
        uses_of_places, products = self._of_shape(name, conv, (x.shape[2], x.shape[3]))
        used, seen = sum_and_see(x, uses_of_places)
        uses = used * (conv.out_channels // conv.groups)
        self._layer(name).add(
            dense=len(x) * products,
            inputs=x.numel(),
            unmasked=uses,
            effective=0 if gated else uses,
            seen=seen,
        )
        if gated:
            self._waiting[name] = (conv, x.detach(), uses)

    def see_mask(self, name: str, mask: Tensor | None) -> None:
        """Add the uses that a mask leaves of the convolution `name` just seen.

        Args:
            name: Of the convolution.
            mask: Shape [T, B, C] or [T, B, C or 1, H, W]; 0 leaves an output out. None leaves all in.
        """
        if name not in self._waiting:
            return
        conv, x, uses = self._waiting.pop(name)
        self._layer(name).add(effective=uses if mask is None else uses_kept(conv, x, mask))

    def see_pass(self, output: Tensor) -> None:
        """Note a pass over steps and samples as `output` has them, [T, B, ...]."""
        self._waiting.clear()
        self.samples += output.shape[1]
        self.steps += output.shape[0] * output.shape[1]

    def see_partial_sums(
        self, name: str, gate: PartialSumGate, conv: nn.Conv2d, x: Tensor, kept: Tensor
    ) -> None:
        """Count a convolution over part of its input x [N, C, H, W], and the rest where it is completed."""
        self.see_convolution(name, conv, x, gated=True)
        _, _, uses = self._waiting.pop(name)
        parts, seen = gate.settings.parts, conv.in_channels // gate.settings.parts
        if gate.settings.partial == "first":
            later, _ = sum_and_see(x[:, seen:], uses_of(conv, (x.shape[2], x.shape[3])))
            partial = uses - later * conv.out_channels
            rest = uses_kept(conv, x[:, seen:], kept)
        else:
            partial = uses // parts
            rest = uses_kept(conv, x, kept) - uses_kept(conv, x, kept, groups=parts)
        self._layer(name).add(effective=partial + rest)

    def see_own_layers(self, name: str, gate: nn.Module, x: Tensor, kept: Tensor) -> None:
        """Count the layers of a gate `name`, which sees means of x [N, C, H, W]; nothing is left out."""
        for part, layer in gate.named_children():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                places = kept[0, 0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
                dense = len(x) * places * layer.weight.numel()
                seen = look_at(torch.tensor([1.0, 3.0]))
                self._layer(f"{name}.{part}").add(
                    dense=dense, inputs=0, unmasked=dense, effective=dense, seen=seen
                )

    def see_linear(self, name: str, layer: nn.Linear, x: Tensor) -> None:
        """Count a linear layer of x [..., F]."""
        rows = x.reshape(-1, 1, 1, layer.in_features)
        used, seen = sum_and_see(rows, once_each(1, layer.in_features))
        uses = used * layer.out_features
        dense = len(rows) * layer.in_features * layer.out_features
        self._layer(name).add(dense=dense, inputs=x.numel(), unmasked=uses, effective=uses, seen=seen)

    def see_attention(
        self, name: str, layer: SpikeAttention, query: Tensor, key: Tensor, value: Tensor
    ) -> None:
        """Count Q (K^T V) of [T, B, C, H, W]: pairs of spikes of K and V, then spikes of Q times features."""
        features = query.shape[2] // layer.heads
        spikes, seen = zip(*(_of_tokens(x, layer.heads) for x in (query, key, value)), strict=True)
        of_query, of_key, of_value = spikes
        uses = (of_key * of_value).sum() + of_query.sum() * features
        # Twice, for every frame and token, each head multiplies features by features.
        dense = 2 * (query.numel() // features) * features * features
        self._layer(name).add(
            dense=dense,
            inputs=3 * query.numel(),
            unmasked=uses,
            effective=uses,
            seen=seen[0].also(seen[1]).also(seen[2]),
        )

    def see_key_values(self, name: str, layer: KeyValueSum, key: Tensor, value: Tensor) -> None:
        """Count a sum of keys times values [T, B, C, H, W]: an operation for each term that is not 0."""
        terms = layer.terms(key, value)
        uses, seen = sum_and_see(terms.flatten(0, 1), once_each(*terms.shape[3:]))
        self._layer(name).add(
            dense=terms.numel(), inputs=2 * terms.numel(), unmasked=uses, effective=uses, seen=seen
        )

    def _of_shape(self, name: str, conv: nn.Conv2d, input_hw: tuple[int, int]) -> tuple[Tensor, int]:
        """Return `uses_of` the layer and the products of a sample, found once for each shape of input."""
        found = self._known.get((name, *input_hw))
        if found is None:
            height, width = (output_size(conv, axis, size) for axis, size in enumerate(input_hw))
            fan_in = conv.in_channels // conv.groups * conv.kernel_size[0] * conv.kernel_size[1]
            found = uses_of(conv, input_hw), height * width * conv.out_channels * fan_in
            self._known[name, *input_hw] = found
        return found

    def _layer(self, name: str) -> LayerCount:
        return self.layers.setdefault(name, LayerCount())


@contextmanager
def count_operations(model: nn.Module) -> Iterator[OperationCounter]:
    """Count the operations of everything that the network is given while the block runs.

    Args:
        model: Returns logits [T, B, ...], or else is given frames [T, B, ...] at every step.

    Raises:
        CostError: A layer computes something that cannot be counted.
    """
    counter = OperationCounter()

    def see(_: nn.Module, arguments: Any, output: Any) -> None:
        # Logits have a row for every step, which a picture that is repeated has not; boxes have none.
        counter.see_pass(output if isinstance(output, Tensor) else arguments[0])

    handles = [model.register_forward_hook(see)]
    blocks = [(name, block) for name, block in model.named_modules() if isinstance(block, ConvBlock)]
    gates = {f"{name}.conv": block.gate for name, block in blocks if block.gate is not None}
    for name, gate in gates.items():
        handles.append(gate.register_forward_hook(_gate_hook(counter, name)))
    for name, layer, _ in weight_layers(model):
        handles.append(layer.register_forward_pre_hook(_layer_hook(counter, name, gated=name in gates)))
    for name, module in model.named_modules():
        if isinstance(module, SpikeAttention | KeyValueSum):
            handles.append(module.register_forward_pre_hook(_layer_hook(counter, name)))
    try:
        yield counter
    finally:
        for handle in handles:
            handle.remove()


def _gate_hook(counter: OperationCounter, name: str) -> Any:
    def see(gate: nn.Module, arguments: Any, gated: Gated) -> None:
        x, conv = arguments[0].flatten(0, 1), arguments[1]
        if isinstance(gate, PartialSumGate):
            counter.see_partial_sums(name, gate, conv, x, gated.kept)
        elif isinstance(gate, SqueezeGate | SpatialGate):
            counter.see_own_layers(name.removesuffix("conv") + "gate", gate, x, gated.kept)
        counter.see_mask(name, gated.mask)

    return see


def _layer_hook(counter: OperationCounter, name: str, *, gated: bool = False) -> Any:
    def see(layer: nn.Module, arguments: Any) -> None:
        if isinstance(layer, nn.Conv2d):
            counter.see_convolution(name, layer, arguments[0], gated=gated)
        elif isinstance(layer, nn.Linear):
            counter.see_linear(name, layer, arguments[0])
        elif isinstance(layer, SpikeAttention):
            counter.see_attention(name, layer, *arguments)
        elif isinstance(layer, KeyValueSum):
            counter.see_key_values(name, layer, *arguments)

    return see


def _of_tokens(x: Tensor, heads: int) -> tuple[Tensor, Seen]:
    """Return the spikes of each token in each head of x [T, B, C, H, W], in any order, and what was seen."""
    frames = x.flatten(0, 1)
    features = frames.shape[1] // heads
    if frames.is_contiguous():
        by_head = frames.reshape(len(frames) * heads, features, -1)
        rows = by_head.transpose(1, 2).unsqueeze(2)
    else:
        rows = frames.permute(0, 2, 3, 1).reshape(len(frames), -1, 1, features)
    return count_and_see(rows, once_each(1, features))
