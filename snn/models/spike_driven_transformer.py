"""Spike-driven transformer: attention that masks channels, between currents that are added up.

Sources: Yao et al., "Spike-driven Transformer", NeurIPS 2023, and its released code; with several levels of
spikes one-hot M-LIF, IEEE Access 2025. Tokens stay where they are in the map, [T, B, C, H, W]: a linear layer
over the channels of a token is a convolution of 1x1. What passes from block to block is a current; neurons
stand before every convolution but the first. The release builds and never calls a convolution over heads,
neurons of the attention and a drop of whole paths; they are left out. Heads share no sum and no weight, so
that their number decides nothing but what `erode = "published"` takes for neighbours.
"""

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from snn.layers import ConvBlock, ConvNorm, Stepwise, book_of, run_layers
from snn.models.options import ModelOptions
from snn.models.spikformer import ATTENTION_THRESHOLD, EXPANSION, draw_weights
from snn.neurons.modules import Neuron

Erosion = Literal["none", "places", "published"]


@dataclass(frozen=True)
class SpikeDrivenPlan:
    """Sizes of a spike-driven transformer.

    Attributes:
        features: Features of a token.
        blocks: Blocks of attention; `options.blocks` goes before it.
        pooled: Which of the four convolutions that make the tokens are followed by a pool: 1 to 4.
        erode: What the largest of 3x3 neighbours is taken of in the attention: of nothing; `places`: of keys,
            values, their product and what the queries leave of it, over places; `published`: of the last two
            over tokens in a row and the features of a head.
        heads: Heads, for `published` alone; they share the features.
    """

    features: int
    blocks: int
    pooled: tuple[int, ...]
    erode: Erosion = "none"
    heads: int = 8


PLANS: dict[str, SpikeDrivenPlan] = {
    # Named by blocks and features. For pictures: 4x4 pixels a token, and 16x16 for large ones.
    "spike_driven_2_512": SpikeDrivenPlan(512, 2, pooled=(3, 4)),
    "spike_driven_8_512": SpikeDrivenPlan(512, 8, pooled=(1, 2, 3, 4)),
    # For recordings, 16x16 pixels a token.
    "spike_driven_2_256_events": SpikeDrivenPlan(256, 2, pooled=(1, 2, 3, 4), erode="places"),
    "spike_driven_2_256_events_published": SpikeDrivenPlan(256, 2, pooled=(1, 2, 3, 4), erode="published"),
}


class KeyValueSum(nn.Module):
    """Sum over all tokens of keys times values, channel by channel: one current a channel. It has no weights.

    Attributes:
        erode: As in `SpikeDrivenPlan`.
        heads: As in `SpikeDrivenPlan`.
    """

    def __init__(self, erode: Erosion, heads: int) -> None:
        super().__init__()
        self.erode, self.heads = erode, heads

    def forward(self, key: Tensor, value: Tensor) -> Tensor:
        """Return the current, shape [T, B, C, 1, 1], for spikes [T, B, C, H, W]."""
        return self.terms(key, value).sum(dim=(3, 4), keepdim=True)

    def terms(self, key: Tensor, value: Tensor) -> Tensor:
        """Return what is added up, shape [T, B, C, H, W], that of the spikes."""
        if self.erode != "none":
            key, value = largest_of_places(key), largest_of_places(value)
        return self.of_neighbours(key * value)

    def of_neighbours(self, product: Tensor) -> Tensor:
        """Return a product of spikes [T, B, C, H, W], or of its neighbours the largest where that is told."""
        if self.erode == "none":
            return product
        if self.erode == "places":
            return largest_of_places(product)
        by_head = (
            product.flatten(3).unflatten(2, (self.heads, -1)).transpose(3, 4)
        )  # [T, B, heads, N, C / heads]
        return largest_of_places(by_head).transpose(3, 4).reshape(product.shape)

    def extra_repr(self) -> str:
        """Return the kind of erosion."""
        return f"erode={self.erode}"


def largest_of_places(x: Tensor) -> Tensor:
    """Return the largest of 3x3 neighbours in the last two axes of x [T, B, C, H, W], in the shape of x."""
    return nn.functional.max_pool2d(x.flatten(0, 1), 3, stride=1, padding=1).unflatten(0, x.shape[:2])


class SpikeDrivenBlock(nn.Module):
    """Attention and two linear layers, each added to what comes in: currents in and out.

    Attributes:
        enter: Neurons of what comes in.
        query: 1x1 conv block.
        key: 1x1 conv block.
        value: 1x1 conv block.
        attention: Sum over tokens of key times value.
        attention_neuron: Neurons of that sum, one a channel, of half the threshold of the others.
        project: 1x1 convolution and normalisation of the queries that attention leaves.
        between: Neurons of the sum of both.
        expand: 1x1 conv block to four times the features.
        contract: 1x1 convolution back, and normalisation.
    """

    def __init__(self, features: int, plan: SpikeDrivenPlan, options: ModelOptions) -> None:
        super().__init__()
        self.pack_spikes = options.pack_spikes
        neuron, executor = options.neuron, options.executor

        def linear(outputs: int, *, bias: bool = False) -> ConvBlock:
            return ConvBlock(
                features, outputs, neuron=neuron, kernel=1, bias=bias, draw="torch", executor=executor
            )

        self.enter = Neuron(neuron, channels=features, executor=executor)
        self.query, self.key, self.value = linear(features), linear(features), linear(features)
        self.attention = KeyValueSum(plan.erode, plan.heads)
        halved = replace(neuron, threshold=ATTENTION_THRESHOLD * neuron.threshold)
        self.attention_neuron = Neuron(halved, channels=features, executor=executor)
        self.project = ConvNorm(features, features, bias=True)
        self.between = Neuron(neuron, channels=features, executor=executor)
        self.expand = linear(EXPANSION * features, bias=True)
        self.contract = ConvNorm(EXPANSION * features, features, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return a current [T, B, C, H, W] for one of that shape."""
        spikes, book = self.enter(x), self._book(self.enter)
        query, key, value = (layer(spikes, book=book) for layer in (self.query, self.key, self.value))
        kept = self.attention_neuron(self.attention(key, value))
        x = x + self.project(self.attention.of_neighbours(query * kept))
        expanded = self.expand(self.between(x), book=self._book(self.between))
        return x + self.contract(expanded, book=self._book(self.expand.neuron))

    def _book(self, neuron: Neuron) -> tuple[float, ...] | None:
        return book_of(neuron) if self.pack_spikes else None


class SpikeDrivenTransformer(nn.Module):
    """Spike-driven transformer: frames `[T, B, P, H, W]` in, logits `[T, B, K]` out, one row a step.

    Its layers are named `patch1` to `patch4`, `pool3` (after `patch3`) and so on, which make the tokens,
    `token_neuron` and `position`, whose current is added to theirs, `block1` and so on, and on the mean over
    tokens `head_neuron` and `classifier`. The neurons of `patch1` and of the head are `options.first_neuron`.
    `options.pool` is not read: pools are 3x3 maxima with stride 2, of spikes or, after `patch4`, of its
    current.

    Attributes:
        options: What it was built from.
    """

    def __init__(self, plan: SpikeDrivenPlan, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        executor = options.executor
        # The same features in every head of a narrow network.
        features = plan.heads * max(1, round(plan.features * options.width / plan.heads))
        channels = options.in_channels
        for number, share in enumerate((8, 4, 2, 1), start=1):
            neuron = options.first_neuron if number == 1 else options.neuron
            size = features // share
            patch: nn.Module = ConvNorm(channels, size, kernel=3)
            if number < 4:
                patch = ConvBlock(channels, size, neuron=neuron, bias=False, draw="torch", executor=executor)
            self.add_module(f"patch{number}", patch)
            if number in plan.pooled:
                self.add_module(f"pool{number}", Stepwise(nn.MaxPool2d(3, stride=2, padding=1)))
            channels = size
        self.token_neuron = Neuron(options.neuron, channels=features, executor=executor)
        self.position = ConvNorm(features, features, kernel=3)
        for number in range(1, (options.blocks or plan.blocks) + 1):
            self.add_module(f"block{number}", SpikeDrivenBlock(features, plan, options))
        self.head_neuron = Neuron(options.first_neuron, channels=features, executor=executor)
        self.classifier = nn.Linear(features, options.classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                draw_weights(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [T, B, K] for frames [T, B, P, H, W].

        Raises:
            ModelError: The frames are not of the shape the model was built for.
        """
        x = self.options.take_frames(x)
        layers = dict(self.named_children())
        patches = [layer for name, layer in layers.items() if name.startswith(("patch", "pool"))]
        tokens = run_layers(patches, x, pack_spikes=self.options.pack_spikes)
        book = book_of(self.token_neuron) if self.options.pack_spikes else None
        tokens = tokens + self.position(self.token_neuron(tokens), book=book)
        for name, block in layers.items():
            if name.startswith("block"):
                tokens = block(tokens)
        return self.classifier(self.head_neuron(tokens.mean(dim=(3, 4))))
