"""Golden vectors of whole networks of one-hot M-LIF: weights from an integer formula, outputs and gradients.

Tolerances: operations and non-zeros exact, everything else rtol 2e-4, atol 2e-5. In float64, as recorded.
"""

import math
from dataclasses import replace

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
    logits, nonzero = run(model, frames)
    loss = tet_loss(
        logits,
        torch.from_numpy(vector["targets"]),
        weight=vector.scalar("lamb"),
        target=vector.scalar("means"),
    )
    loss.backward()
    vector.close("logits", logits.detach().transpose(0, 1).numpy(), **VALUES)
    vector.close("loss_tet", loss.detach().numpy(), **VALUES)
    vector.equal("ops", np.array(list(nonzero.values()), dtype=np.float64))
    vector.close("weight_grad_norms", gradient_norms(model), **VALUES)
    # A lane of the input is worth 2^s of the merged frame, and so is its gradient.
    by_lane = 2.0 ** torch.arange(lanes)
    gradient = frames.grad
    vector.close("gx_sum", (gradient.sum((1, 2, 3, 4))[:, None] * by_lane).numpy(), **VALUES)
    sample = gradient[:, 0, :, 20:24, 20:24]
    vector.close("gx_sample", (sample[:, None] * by_lane[:, None, None, None]).numpy(), **VALUES)


def run(model: nn.Module, frames: Tensor) -> tuple[Tensor, dict[str, int]]:
    """Return logits [T, B, K], and by layer how many elements of its inputs were not 0."""
    nonzero: dict[str, int] = {}
    handles = []
    for name, layer, _ in weight_layers(model):
        nonzero[name] = 0

        def count(_: nn.Module, arguments: tuple[Tensor], name: str = name) -> None:
            nonzero[name] += int(arguments[0].count_nonzero())

        handles.append(layer.register_forward_pre_hook(count))
    logits = model(frames)
    for handle in handles:
        handle.remove()
    return logits, nonzero


def gradient_norms(model: nn.Module) -> np.ndarray:
    """Return the norm of the gradient of every layer's weights, in the order of the model."""
    norms = []
    for name, layer, _ in weight_layers(model):
        if layer.weight.grad is None:
            raise Mismatch(f"{name}.weight has no gradient")
        norms.append(float(layer.weight.grad.norm()))
    return np.array(norms)
