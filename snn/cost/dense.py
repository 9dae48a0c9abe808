"""Multiply-accumulates of a network that leaves nothing out, from the shapes of its layers alone."""

from collections.abc import Mapping

from torch import Tensor, nn

from snn.cost.energy import EnergySettings
from snn.cost.nonzeros import Values
from snn.cost.one_step import run_one_step
from snn.layers import weight_layers
from snn.quant.settings import FLOAT_BITS


def dense_macs(model: nn.Module, frame_shape: tuple[int, ...]) -> dict[str, int]:
    """Return the multiply-accumulates of each layer with weights, for one frame of one sample.

    Outputs times fan-in, the zeros around a map too; products of an attention have no weights: not here.

    Args:
        model: The network, on any device; build it on `meta` where only its shapes are wanted, and without
            `steps`, which repeat a frame.
        frame_shape: [P, H, W] of its frames.
    """
    found: dict[str, int] = {}

    def note(name: str, layer: nn.Module, output: Tensor) -> None:
        assert isinstance(layer.weight, Tensor)
        found[name] = found.get(name, 0) + output.numel() * layer.weight[0].numel()

    handles = [
        layer.register_forward_hook(lambda layer, _, output, name=name: note(name, layer, output))
        for name, layer, _ in weight_layers(model)
    ]
    try:
        run_one_step(model, frame_shape)
    finally:
        for handle in handles:
            handle.remove()
    return found


def ann_energy_uj(macs: Mapping[str, int], energy: EnergySettings | None = None) -> float:
    """Return the energy of an ANN in float, every product counted, in microjoules: 4.6 pJ each in 45 nm."""
    energy = energy or EnergySettings()
    return 1e-6 * sum(macs.values()) * energy.operation_pj(Values.ANY, FLOAT_BITS)
