"""Golden vectors of whole networks of one-hot M-LIF: weights from an integer formula, outputs and gradients.

Tolerances: operations and non-zeros exact, everything else rtol 2e-4, atol 2e-5. In float64, as recorded.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from golden.lanes import VALUES
from golden.vector import Mismatch, Vector
from torch import Tensor, nn

from snn.layers import weight_layers
from snn.losses import tet_loss
from snn.models.registry import ModelSettings, build_model
from snn.neurons.settings import published

# Added to 1000 times the seed: the key that frames and pictures are drawn with.
INPUT_KEY = 999
# Layers of the spike-driven transformer: part of the release's name for what it is given, and our name.
SDT_LAYERS = {
    "proj_conv1": "patch2",
    "proj_conv2": "patch3",
    "proj_conv3": "patch4",
    "proj_conv": "patch1",
    "rpe_conv": "position",
    "x_after_kqv": "project",
    "kqv": "query",
    "fc1": "expand",
    "fc2": "contract",
    "head": "classifier",
}


@dataclass
class Seen:
    """What a layer with weights was given.

    Attributes:
        nonzero: Elements of its input that were not 0, over samples and steps.
        inputs: Elements of its input, over samples and steps.
        operations: Multiply-accumulates of one sample in one step.
    """

    nonzero: int = 0
    inputs: int = 0
    operations: int = 0


def integers(count: int, key: int, largest: int) -> Tensor:
    """Return `count` whole numbers from -largest to largest, float64, by the rule of the vectors' README."""
    mask = np.uint64(0xFFFFFFFF)
    h = (np.arange(count, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(key * 40503 + 12345)) & mask
    h = ((h ^ (h >> np.uint64(15))) * np.uint64(2246822519)) & mask
    h ^= h >> np.uint64(13)
    return torch.from_numpy((h % np.uint64(2 * largest + 1)).astype(np.float64)) - largest


@torch.no_grad()
def fill_weights(model: nn.Module, seed: int, *, shift: int = 0, factor: float = 1.0) -> None:
    """Set every convolution and linear layer, in the order of the model, as the vectors' README has it.

    Args:
        model: The network.
        seed: Of the vector.
        shift: Power of two that all weights are multiplied by.
        factor: On the weights of convolutions.
    """
    for j, (_, layer, _) in enumerate(weight_layers(model)):
        key = 1000 * seed + 2 * j
        fan_in = layer.weight[0].numel()
        unit = 2.0 ** (shift - math.ceil(math.log2(2 * math.sqrt(fan_in))))
        unit *= factor if isinstance(layer, nn.Conv2d) else 1.0
        layer.weight.copy_((integers(layer.weight.numel(), key, 3) * unit).reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_((integers(layer.bias.numel(), key + 1, 3) + 1) / 16)


def check_vggsnn(vector: Vector) -> None:
    """VGGSNN without pools on one-hot frames: logits, loss, gradients, inputs of a layer that are not 0."""
    seed, lanes, steps, batch = (int(vector.scalar(key)) for key in ("seed", "S", "T", "batch"))
    neuron = replace(published("mlif"), lanes=lanes)
    settings = ModelSettings("vggsnn", neuron=neuron, executor="reference")
    model = build_model(settings, input_hw=(48, 48), classes=10).double().eval()
    fill_weights(model, seed, factor=4.0)
    codes = integers(2 * steps * 2 * 48 * 48, 1000 * seed + INPUT_KEY, 3 * lanes)
    codes = codes.reshape(batch, steps, 2, 48, 48)
    values = sum((codes == lane).double() * 2.0**lane for lane in range(lanes))
    frames = values.transpose(0, 1).contiguous().requires_grad_()
    logits, seen = run(model, frames)
    loss = tet_loss(
        logits,
        torch.from_numpy(vector["targets"]),
        weight=vector.scalar("lamb"),
        target=vector.scalar("means"),
    )
    loss.backward()
    vector.close("logits", logits.detach().transpose(0, 1).numpy(), **VALUES)
    vector.close("loss_tet", loss.detach().numpy(), **VALUES)
    vector.equal("ops", np.array([float(layer.nonzero) for layer in seen.values()]))
    vector.close("weight_grad_norms", gradient_norms(model), **VALUES)
    # A lane of the input is worth 2^s of the merged frame, and so is its gradient.
    by_lane = 2.0 ** torch.arange(lanes)
    gradient = frames.grad
    vector.close("gx_sum", (gradient.sum((1, 2, 3, 4))[:, None] * by_lane).numpy(), **VALUES)
    sample = gradient[:, 0, :, 20:24, 20:24]
    vector.close("gx_sample", (sample[:, None] * by_lane[:, None, None, None]).numpy(), **VALUES)


def check_sdt(vector: Vector) -> None:
    """Spike-driven transformer on pictures: logits, loss, gradients, activity of every layer with weights."""
    seed, lanes, steps, batch = (int(vector.scalar(key)) for key in ("seed", "S", "T", "batch"))
    neuron = replace(published("mlif_node"), lanes=lanes, scaled=vector.scalar("scaled") == 1)
    settings = ModelSettings(
        "spike_driven_2_512",
        neuron=neuron,
        width=vector.scalar("embed") / 512,
        blocks=int(vector.scalar("depth")),
        steps=steps,
        executor="reference",
    )
    vector.ignore("heads")  # they share nothing
    model = build_model(settings, input_hw=(32, 32), classes=10, in_channels=3).double().eval()
    fill_weights(model, seed, shift=2)
    pictures = integers(batch * 3 * 32 * 32, 1000 * seed + INPUT_KEY, 8).reshape(1, batch, 3, 32, 32) / 8
    logits, seen = run(model, pictures)
    mean = logits.mean(0)
    vector.close("logits", mean.detach().numpy(), **VALUES)
    # The vector stores no targets; of all pairs of classes, these alone give its loss.
    loss = nn.functional.cross_entropy(mean, torch.tensor([3, 7]))
    loss.backward()
    vector.close("loss", loss.detach().numpy(), **VALUES)
    _check_activity(vector, seen)
    kept = np.array(["talking_heads" not in name for name in vector["weight_names"]])
    norms = np.zeros(len(kept))  # of the convolution that the release never calls, 0
    norms[kept] = gradient_norms(model)
    vector.close("weight_grad_norms", norms, **VALUES)


def _check_activity(vector: Vector, seen: dict[str, Seen]) -> None:
    """Compare inputs and operations by layer; queries, keys and values are one entry, with one input."""
    names, rows = [], []
    for name, layer in seen.items():
        if name.endswith((".key.conv", ".value.conv")):
            continue
        shared = 3 if name.endswith(".query.conv") else 1
        names.append(name)
        rows.append((layer.nonzero, layer.inputs, shared * layer.operations))
    ends = [name.removesuffix(".conv").split(".")[-1] for name in names]
    theirs = [next(end for part, end in SDT_LAYERS.items() if part in name) for name in vector["names"]]
    assert ends == theirs
    for key, found in zip(("nonzero", "numel", "flops"), zip(*rows, strict=True), strict=True):
        vector.equal(key, np.array(found))


def run(model: nn.Module, frames: Tensor) -> tuple[Tensor, dict[str, Seen]]:
    """Return logits [T, B, K], and by layer what it was given."""
    seen = {name: Seen() for name, _, _ in weight_layers(model)}
    handles = []
    for name, layer, _ in weight_layers(model):

        def note(
            layer: nn.Module, arguments: tuple[Tensor], output: Tensor, *, of: Seen = seen[name]
        ) -> None:
            of.nonzero = int(arguments[0].count_nonzero())
            of.inputs = arguments[0].numel()
            places = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else output.shape[-1]
            outputs = output.shape[1] if isinstance(layer, nn.Conv2d) else 1
            of.operations = outputs * places * layer.weight[0].numel()

        handles.append(layer.register_forward_hook(note))
    logits = model(frames)
    for handle in handles:
        handle.remove()
    first = next(iter(seen.values()))
    repeats = logits.shape[0] // frames.shape[0]  # a picture is convolved once for all steps
    first.nonzero, first.inputs = repeats * first.nonzero, repeats * first.inputs
    return logits, seen


def gradient_norms(model: nn.Module) -> np.ndarray:
    """Return the norm of the gradient of every layer's weights, in the order of the model."""
    norms = []
    for name, layer, _ in weight_layers(model):
        if layer.weight.grad is None:
            raise Mismatch(f"{name}.weight has no gradient")
        norms.append(float(layer.weight.grad.norm()))
    return np.array(norms)
