"""A network as a list of steps, in the numbers it was trained with: what every export starts from.

Normalisations are folded into one scale and bias per channel here, and what cannot be exported is refused by
the name of its layer. What has to be one integer type or another is decided later, by each export.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from snn.neurons.settings import NeuronSettings

Kind = Literal[
    "conv", "linear", "sum_pool", "max_pool", "sum_places", "flatten", "add", "attention", "neuron"
]
Shape = tuple[int, ...]

FRAMES = "frames"


class Weights(NamedTuple):
    """What a convolution or linear layer computes with: (sums of x times values) * scale + bias.

    Attributes:
        values: Codes where they have few bits, int8; else the weights, float64. Shape [O, ...].
        bits: Each is stored in; 32 is float.
        rule: Of the levels; `float` for float.
        scale: Of a channel, the normalisation's factor in it; float64 [O].
        bias: Of a channel, the same; float64 [O].
        stride: Of a convolution, in height and width.
        padding: Of a convolution, above and below, left and right.
        groups: Of a convolution.
    """

    values: np.ndarray
    bits: int
    rule: str
    scale: np.ndarray
    bias: np.ndarray
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1


class Neurons(NamedTuple):
    """A layer of neurons.

    Attributes:
        settings: The options of the recurrence.
        threshold: One number, or one per channel; float64 [1] or [C].
        decay: The same.
    """

    settings: NeuronSettings
    threshold: np.ndarray
    decay: np.ndarray


@dataclass(frozen=True)
class Node:
    """One step.

    Attributes:
        name: Of the layer of the network; what it hands on goes by that name too.
        kind: What is computed. `sum_pool`: the mean of 2x2 places; `sum_places`: of all places. `attention`:
            the product of queries, keys and values over all places.
        inputs: Names of what it is given, one, or two of `add`, or three; `frames` are the frames.
        shape: Of what it hands on, without steps and samples: [C, H, W] or [F].
        weights: Of `conv` and `linear`.
        neurons: Of `neuron`.
        numbers: Of `max_pool`, `kernel`, `stride` and `padding`; of `attention`, `heads` and `fraction_bits`
            of its scale, a power of two.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    shape: Shape
    weights: Weights | None = None
    neurons: Neurons | None = None
    numbers: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A network, step by step.

    Attributes:
        frames: Shape of a frame, [P, H, W].
        repeats: Steps at which a frame of one step is seen (direct coding); None for frames of every step.
        nodes: In the order they are computed; the last one hands on the logits.
    """

    frames: Shape
    repeats: int | None
    nodes: tuple[Node, ...] = field(repr=False)
