"""Golden vectors of converted networks: thresholds found, logits, loss, gradients, operations, as released.

Tolerances: operations exact; thresholds, logits and loss rtol 2e-4, atol 2e-5; gradients of thresholds and
leaks both 1e-3.
"""

from dataclasses import replace

import numpy as np
import torch
from golden.lanes import SUMS, VALUES
from golden.networks import INPUT_KEY, fill_weights, gradient_norms, integers
from golden.vector import Vector
from torch import Tensor, nn

from snn.conversion.thresholds import ThresholdSettings, find_thresholds
from snn.layers import weight_layers
from snn.models.registry import ModelSettings, build_model
from snn.neurons.settings import published

NAMES = {"vgg": "vgg16", "res": "resnet20"}


def check_network(vector: Vector) -> None:
    """VGG16 or ResNet-20 with learned thresholds and leaks, thresholds searched on the batch itself."""
    vector.ignore("layer_ids", "ops_ids")  # the order is that of the network
    arch, seed = str(vector["arch"]), int(vector.scalar("seed"))
    lanes, steps, batch = (int(vector.scalar(key)) for key in ("S", "T", "batch"))
    firing = {1: "one_hot", 2: "cumulative"}[int(vector.scalar("hardware_opt"))]
    neuron = replace(published("mlif_converted"), lanes=lanes, firing=firing, decay=vector.scalar("leak"))
    settings = ModelSettings(
        NAMES[arch], neuron=neuron, first_fixed=False, steps=steps, dropout=0.0, executor="reference"
    )
    classes = int(vector.scalar("labels"))
    model = build_model(settings, input_hw=(32, 32), classes=classes, in_channels=3)
    fill_weights(model, seed)
    _check_weights(vector, model)
    pictures = integers(batch * 3 * 32 * 32, 1000 * seed + INPUT_KEY, 8).float().reshape(1, batch, 3, 32, 32)
    pictures = pictures / 8
    search = ThresholdSettings(
        scaling=vector.scalar("scaling_factor"),
        rescale_biases=False,
        in_force="raw",
        over_steps="last_in_blocks",
    )
    raw = find_thresholds(model, lambda: [pictures], search)
    vector.close("thresholds_raw", np.array(list(raw.values())), **VALUES)
    seen = _watch(model, steps, arch)
    logits = model(pictures)
    vector.equal("ops", np.array(list(seen.values())))
    vector.close("logits", logits.detach().transpose(0, 1).numpy(), **VALUES)
    loss = nn.functional.cross_entropy(logits.mean(0), torch.from_numpy(vector["targets"]))
    loss.backward()
    vector.close("loss", loss.detach().numpy(), **VALUES)
    neurons = [model.get_submodule(name) for name in raw]
    vector.close("grad_thresh", np.array([float(n.threshold.grad) for n in neurons]), **SUMS)
    vector.close("grad_leak", np.array([float(n.decay.grad) for n in neurons]), **SUMS)
    vector.close("weight_grad_norms", gradient_norms(model), **VALUES)


def _check_weights(vector: Vector, model: nn.Module) -> None:
    """Compare the sums that check the generator."""
    layers = [layer for _, layer, _ in weight_layers(model)]
    values = [p.detach().double() for layer in layers for p in (layer.weight, layer.bias) if p is not None]
    vector.close("weight_sum", np.array(sum(float(v.sum()) for v in values)), rtol=1e-9)
    vector.close("weight_abs_sum", np.array(sum(float(v.abs().sum()) for v in values)), rtol=1e-9)


def _watch(model: nn.Module, steps: int, arch: str) -> dict[str, float]:
    """Count as the release does what convolutions and linear layers are given: its numbers, by layer.

    VGG16: inputs that are not 0, of linear layers at the last step alone. ResNet-20: the sum over all lanes,
    which for spikes is their number, after the pool a quarter of it; shortcuts are left out.
    """
    seen: dict[str, float] = {}
    before_pool: list[float] = []

    def note(name: str, layer: nn.Module, x: Tensor) -> None:
        if not seen:
            # A picture is convolved once for all steps.
            seen[name] = steps * float(x.sum() if arch == "res" else x.count_nonzero())
        elif arch == "res" and before_pool:
            seen[name] = before_pool.pop() / 4
        else:
            is_last_alone = arch == "vgg" and isinstance(layer, nn.Linear)
            seen[name] = float((x[-1] if is_last_alone else x).count_nonzero())

    if arch == "res":
        model.pool.register_forward_pre_hook(lambda _, x: before_pool.append(float(x[0].count_nonzero())))
    for name, layer, role in weight_layers(model):
        if role != "shortcut":
            layer.register_forward_pre_hook(
                lambda layer, arguments, name=name: note(name, layer, arguments[0].detach())
            )
    return seen
