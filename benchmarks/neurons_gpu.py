"""Fused neurons on a GPU: share of the copy bandwidth, time beside SpikingJelly, and a VGGSNN training step.

    python benchmarks/neurons_gpu.py [--rounds 15] [--batch 64] [--device cuda]

Bandwidth is the bytes a call must move (`snn.neurons.kernels.launch.traffic`) over its time, beside a plain
copy of as many bytes in the same round. SpikingJelly's LIF is the same neuron as ours here: decay-input,
tau 2, hard reset 0, detached, arctangent surrogate of slope 2. The training step is VGGSNN on frames
[10, 8, 2, 48, 48] in bfloat16, eager and as one CUDA graph. Times are medians. `--device cpu` only shows that
the script works: it says nothing about a GPU, and no GPU has run it yet.
"""

import argparse
import importlib.util
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from snn.losses import tet_loss
from snn.models.registry import ModelSettings, build_model
from snn.neurons.arguments import launch_for
from snn.neurons.executors import explain, run_neurons
from snn.neurons.kernels.launch import traffic
from snn.neurons.reference import NeuronParameters
from snn.neurons.settings import NEURONS, NeuronSettings

LIF = NeuronSettings(
    learn_threshold=False, charge="decay_input", detach_reset=True, surrogate="atan", slope=2.0
)
KINDS = {"lif": LIF, "lt": NEURONS["lt"], "quantlif": NEURONS["quantlif"], "mlif": NEURONS["mlif"]}


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Return how long a call takes on its device."""
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def medians(calls: dict[str, Callable[[], object]], device: torch.device, rounds: int) -> dict[str, float]:
    """Return the median seconds of each call, all called in turns."""
    for call in calls.values():  # compile, allocate
        call()
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call, device))
    return {name: median(found) for name, found in times.items()}


def backward_of(run: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor) -> Callable[[], object]:
    """Return the backward pass alone, of a forward pass made once."""
    out = run(x)
    return lambda: torch.autograd.grad(out, x, grad, retain_graph=True)


def time_bandwidth(x: Tensor, rounds: int) -> None:
    threshold = torch.ones((), device=x.device)
    grad = torch.randn_like(x)
    given, target = x.detach(), torch.empty_like(x)
    for name, settings in KINDS.items():

        def run(y: Tensor, settings: NeuronSettings = settings) -> Tensor:
            return run_neurons(y, None, NeuronParameters(threshold), settings=settings)[0]

        moved = traffic(launch_for(x, settings=settings)[1])
        calls = {
            "copy": lambda: target.copy_(given),
            "forward": lambda run=run: run(given),
            "backward": backward_of(run, x, grad),
        }
        found = medians(calls, x.device, rounds)
        copied = 2 * x.numel() * x.element_size() / found["copy"]
        shares = {call: moved[call] / found[call] for call in ("forward", "backward")}
        text = "  ".join(
            f"{call} {rate / 1e9:6.0f} GB/s {rate / copied:4.0%}" for call, rate in shares.items()
        )
        print(f"{name:10}{text}  of copy {copied / 1e9:6.0f} GB/s")


def time_peer(x: Tensor, rounds: int) -> None:
    if importlib.util.find_spec("spikingjelly") is None:
        print("SpikingJelly is not here: pip install --no-deps spikingjelly==2.0.0 loguru")
        return
    from spikingjelly.activation_based import functional, neuron, surrogate

    node = neuron.LIFNode(
        tau=2.0, detach_reset=True, surrogate_function=surrogate.ATan(alpha=2.0), step_mode="m"
    )
    node, threshold, grad = node.to(x.device), torch.ones((), device=x.device), torch.randn_like(x)

    def theirs() -> None:
        functional.reset_net(node)
        torch.autograd.grad(node(x), x, grad)

    def ours() -> None:
        spikes, _ = run_neurons(x, None, NeuronParameters(threshold), settings=LIF)
        torch.autograd.grad(spikes, x, grad)

    found = medians({"ours": ours, "theirs": theirs}, x.device, rounds)
    print(
        f"LIF forward and backward: ours {found['ours'] * 1e3:.3f} ms, SpikingJelly "
        f"{found['theirs'] * 1e3:.3f} ms, ratio {found['theirs'] / found['ours']:.2f}"
    )


def time_network(device: torch.device, rounds: int, *, width: float) -> None:
    model = build_model(ModelSettings("vggsnn", width=width), input_hw=(48, 48), classes=10).to(device)
    frames = torch.rand(10, 8, 2, 48, 48, device=device).round()
    labels = torch.arange(8, device=device) % 10

    def step() -> None:
        model.zero_grad(set_to_none=False)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(frames)
        tet_loss(logits, labels, weight=0.05, target=1.0).backward()

    calls = {"eager": step}
    if device.type == "cuda":
        calls["CUDA graph"] = captured(step)
    for name, took in medians(calls, device, rounds).items():
        print(f"VGGSNN width {width:g} [10, 8, 2, 48, 48] bf16 training step, {name}: {took * 1e3:.2f} ms")


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Return a step as one CUDA graph; kernels are compiled before it is captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--width", type=float, default=1.0)
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(10, options.batch, 64, 48, 48, device=device, dtype=dtype).requires_grad_()
        why = explain(LIF, device_type=device.type, dtype=dtype)
        print(f"\n{tuple(x.shape)} {dtype}: {x.numel() / 1e6:.0f} M neuron-steps, {why}")
        time_bandwidth(x, options.rounds)
        time_peer(x, options.rounds)
    print()
    time_network(device, options.rounds, width=options.width)


if __name__ == "__main__":
    main()
