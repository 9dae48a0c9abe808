"""Spikformer: a transformer whose queries, keys and values are spikes, with attention without softmax.

Source: Zhou et al., "Spikformer: When Spiking Neural Network Meets Transformer", ICLR 2023, and its released
code. Tokens stay where they are in the map, [T, B, C, H, W]: a linear layer over the channels of a token is
a convolution of 1x1, so that every layer with weights is a conv block. The two LayerNorms of every block
that the release builds and never calls are left out; with them, 4-256 has 4,159,274 parameters.
"""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from snn.layers import ConvBlock, Stepwise, book_of, run_layers
from snn.models.options import ModelOptions
from snn.neurons.modules import Neuron

# Standard deviation that linear layers are drawn with. Source: the release.
LINEAR_DEVIATION = 0.02
# Threshold of the neurons after the attention, in units of the others'. Source: the release.
ATTENTION_THRESHOLD = 0.5
# Features between the two linear layers behind the attention, in units of a token's. Source: the release.
EXPANSION = 4


@dataclass(frozen=True)
class SpikformerPlan:
    """Sizes of a Spikformer.

    Attributes:
        features: Features of a token.
        blocks: Blocks of attention; `options.blocks` goes before it.
        heads: Heads of the attention; they share the features.
        pooled: Which of the four convolutions that make the tokens are followed by a pool: 1 to 4.
        scale: Factor on the product of queries, keys and values, a power of two.
        bias: Whether queries, keys and values have a bias.
    """

    features: int
    blocks: int
    heads: int
    pooled: tuple[int, ...]
    scale: float
    bias: bool


PLANS: dict[str, SpikformerPlan] = {
    # For images, 4x4 pixels a token; named by blocks and features.
    "spikformer_4_256": SpikformerPlan(256, 4, heads=8, pooled=(3, 4), scale=0.125, bias=True),
    "spikformer_4_384": SpikformerPlan(384, 4, heads=12, pooled=(3, 4), scale=0.125, bias=True),
    # For recordings, 16x16 pixels a token; named by these and features, with 2 blocks.
    "spikformer_16_256": SpikformerPlan(256, 2, heads=16, pooled=(1, 2, 3, 4), scale=0.25, bias=False),
}


class SpikeAttention(nn.Module):
    """The product of queries, keys and values over all tokens, head by head; it has no weights.

    Attributes:
        heads: Number of heads.
        scale: Factor on the product.
    """

    def __init__(self, heads: int, scale: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return scale (Q K^T) V as a current, shape [T, B, C, H, W], that of the three.

        Without a softmax in between this is Q (K^T V), which is computed: for tokens more than features of a
        head it is the shorter way, and of binary spikes both are the same whole numbers.
        """
        # [T, B, heads, C / heads, N] with N = H * W tokens.
        q, k, v = (x.flatten(3).unflatten(2, (self.heads, -1)) for x in (query, key, value))
        kept = v @ k.transpose(-1, -2)  # [T, B, heads, C / heads, C / heads]
        return ((kept @ q) * self.scale).reshape(query.shape)

    def extra_repr(self) -> str:
        """Return heads and scale."""
        return f"heads={self.heads}, scale={self.scale:g}"


class AttentionBlock(nn.Module):
    """Attention and two linear layers, each added to what comes in: sums of spikes in and out.

    Attributes:
        query: 1x1 conv block.
        key: 1x1 conv block.
        value: 1x1 conv block.
        attention: Their product.
        attention_neuron: Neurons of the product, of half the threshold of the others.
        project: 1x1 conv block of what attention found.
        expand: 1x1 conv block to four times the features.
        contract: 1x1 conv block back.
    """

    def __init__(self, features: int, plan: SpikformerPlan, options: ModelOptions) -> None:
        super().__init__()
        self.pack_spikes = options.pack_spikes

        def linear(inputs: int, outputs: int, *, bias: bool = True) -> ConvBlock:
            return _linear(inputs, outputs, options, bias=bias)

        self.query = linear(features, features, bias=plan.bias)
        self.key = linear(features, features, bias=plan.bias)
        self.value = linear(features, features, bias=plan.bias)
        self.attention = SpikeAttention(plan.heads, plan.scale)
        neuron = replace(options.neuron, threshold=ATTENTION_THRESHOLD * options.neuron.threshold)
        self.attention_neuron = Neuron(neuron, channels=features, executor=options.executor)
        self.project = linear(features, features)
        self.expand = linear(features, EXPANSION * features)
        self.contract = linear(EXPANSION * features, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return sums of spikes [T, B, C, H, W] for sums of that shape."""
        found = self.attention_neuron(self.attention(self.query(x), self.key(x), self.value(x)))
        x = x + self.project(found, book=book_of(self.attention_neuron) if self.pack_spikes else None)
        expanded = self.expand(x)
        return x + self.contract(expanded, book=self.expand.spike_book() if self.pack_spikes else None)


def _linear(inputs: int, outputs: int, options: ModelOptions, *, bias: bool) -> ConvBlock:
    """Return a linear layer over the features of every token, normalisation and neurons."""
    block = ConvBlock(
        inputs, outputs, neuron=options.neuron, kernel=1, bias=bias, draw="torch", executor=options.executor
    )
    draw_weights(block.conv)
    return block


def draw_weights(layer: nn.Conv2d | nn.Linear) -> None:
    """Draw weights from a normal cut off at -2 and 2, with `LINEAR_DEVIATION`, and set a bias to 0."""
    nn.init.trunc_normal_(layer.weight, std=LINEAR_DEVIATION)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class Spikformer(nn.Module):
    """Spikformer: frames `[T, B, P, H, W]` in, logits `[T, B, K]` out, one row of logits per step.

    Its layers are named `patch1` to `patch4`, `pool3` (after `patch3`) and so on, which make the tokens,
    `position`, whose spikes are added to theirs, `block1` and so on, and `classifier`, on the mean over
    tokens. The first neurons are `options.first_neuron`. `options.pool` is not read: pools are 3x3 maxima
    with stride 2.

    Attributes:
        options: What it was built from.
    """

    def __init__(self, plan: SpikformerPlan, options: ModelOptions) -> None:
        super().__init__()
        self.options = options
        # Heads stay; each has fewer features in a narrow network.
        features = plan.heads * max(1, round(plan.features * options.width / plan.heads))
        channels = options.in_channels
        for number, share in enumerate((8, 4, 2, 1), start=1):
            neuron = options.first_neuron if number == 1 else options.neuron
            size = max(1, features // share)
            patch = ConvBlock(
                channels, size, neuron=neuron, bias=False, draw="torch", executor=options.executor
            )
            self.add_module(f"patch{number}", patch)
            if number in plan.pooled:
                self.add_module(f"pool{number}", Stepwise(nn.MaxPool2d(3, stride=2, padding=1)))
            channels = size
        self.position = ConvBlock(
            features, features, neuron=options.neuron, bias=False, draw="torch", executor=options.executor
        )
        for number in range(1, (options.blocks or plan.blocks) + 1):
            self.add_module(f"block{number}", AttentionBlock(features, plan, options))
        self.classifier = nn.Linear(features, options.classes)
        draw_weights(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [T, B, K] for frames [T, B, P, H, W].

        Raises:
            ModelError: The frames are not of the shape the model was built for.
        """
        x = self.options.take_frames(x)
        layers = dict(self.named_children())
        patches = [layer for name, layer in layers.items() if name.startswith(("patch", "pool"))]
        tokens = run_layers(patches, x, pack_spikes=self.options.pack_spikes)
        tokens = tokens + self.position(tokens)
        for name, block in layers.items():
            if name.startswith("block"):
                tokens = block(tokens)
        return self.classifier(tokens.mean(dim=(3, 4)))
