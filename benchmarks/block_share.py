"""Batch normalisation, neurons and pooling of a whole network against the plain reference, on one CPU core.

    taskset -c 0 python benchmarks/block_share.py [--network vgg9] [--steps 10] [--batch 4] [--rounds 5]

What the published trainer runs behind each convolution is restated by the reference: BatchNorm2d over steps
and samples, the recurrence step by step under autograd, AvgPool2d. Ours is one operator per block. Both go
through every block of the network forwards and backwards, in turns; the ratio is the median over rounds.
Memory is what is kept for the backward pass, each tensor counted once.
"""

import argparse
import time
from statistics import median

import torch
from torch import Tensor, nn

from snn.layers import SpikingBlock, pool_kind
from snn.models.registry import ModelSettings, build_model
from snn.neurons.block import run_block
from snn.neurons.modules import Neuron
from snn.neurons.settings import published


class Share:
    """What lies behind the convolutions of a network, fed with currents of their shapes."""

    def __init__(self, network: str, steps: int, batch: int, executor: str) -> None:
        torch.manual_seed(0)
        neuron = published("lt")
        model = build_model(
            ModelSettings(network, neuron=neuron, executor=executor), input_hw=(48, 48), classes=10
        )
        layers = list(model.children())
        self.parts: list[tuple[nn.Module, Neuron, str, Tensor]] = []
        shapes: list[torch.Size] = []
        for block in layers:
            if isinstance(block, SpikingBlock):
                block.conv.register_forward_hook(lambda _, __, output: shapes.append(output.shape))
        with torch.no_grad():
            model.eval()(torch.zeros(1, 1, 2, 48, 48))
        for block, after in zip(layers, [*layers[1:], None], strict=True):
            if isinstance(block, SpikingBlock):
                current = torch.randn(steps, batch, *shapes[len(self.parts)][1:], requires_grad=True)
                self.parts.append((block.norm.train(), block.neuron, pool_kind(after), current))

    def step(self) -> None:
        """Go through every block, forwards and backwards."""
        for norm, neuron, pool, current in self.parts:
            current.grad = None
            out, _ = run_block(current, norm, neuron, pool=pool)
            out.backward(torch.ones_like(out))

    def kept(self) -> int:
        """Return the bytes kept for the backward pass, summed over the blocks."""
        total = 0
        for norm, neuron, pool, current in self.parts:
            kept: dict[int, int] = {}

            def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
                kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                out, _ = run_block(current, norm, neuron, pool=pool)
            out.backward(torch.ones_like(out))
            total += sum(kept.values())
        return total


def main() -> None:
    """Time both in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="vgg9")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    shares = {
        executor: Share(options.network, options.steps, options.batch, executor)
        for executor in ("reference", "numba")
    }
    seconds: dict[str, list[float]] = {executor: [] for executor in shares}
    for round_ in range(options.rounds + 1):
        for executor, share in shares.items():
            began = time.process_time()
            share.step()
            if round_ > 0:
                seconds[executor].append(time.process_time() - began)
    plain, ours = seconds["reference"], seconds["numba"]
    kept = {executor: share.kept() / 1e6 for executor, share in shares.items()}
    print(f"{options.network}, T = {options.steps}, batch {options.batch}: behind the convolutions")
    print(f"reference {median(plain):.3f} s, {kept['reference']:.0f} MB kept")
    print(f"ours      {median(ours):.3f} s, {kept['numba']:.0f} MB kept")
    print(
        f"ratio     {median(a / b for a, b in zip(plain, ours, strict=True)):.2f} in time, "
        f"{kept['reference'] / kept['numba']:.2f} in memory"
    )


if __name__ == "__main__":
    main()
