"""Bytes moved: the budget of every launch, and that blocks launch what the budget counts."""

from math import prod
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from snn.neurons.block import run_block
from snn.neurons.kernels.launch import CHUNK, Launch, traffic
from snn.neurons.modules import Neuron
from snn.neurons.settings import NEURONS
from tests.suites import reference_kernels

STEP = (2, 4, 6, 8)
# Both dtypes have a float32 membrane; a neuron has one at the end and one for each CHUNK steps but the first.
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def launch(name, *, steps, dtype, pool="none", affine=False):
    return Launch(NEURONS[name], steps, STEP, False, dtype, pool=pool, affine=affine)


def membranes(plan, *, last):
    """Bytes of membranes: those stored on the way and, in forward, the last one."""
    return (plan.chunks - 1 + last) * plan.neurons * 4


def budget(plan, elements):
    """Bytes of so many elements for each neuron and step."""
    return elements * plan.dtype.itemsize * plan.neurons * plan.steps


@pytest.mark.parametrize("steps", [10, 64])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NEURONS)
def test_neurons_alone(name, dtype, steps):
    plan = launch(name, steps=steps, dtype=dtype)
    moved = traffic(plan)
    assert moved["forward"] - membranes(plan, last=1) <= budget(plan, 2)
    assert moved["backward"] - membranes(plan, last=0) <= budget(plan, 3)
    assert membranes(plan, last=1) <= 8 * plan.neurons  # the 8 / T bytes a neuron and step left out above


@pytest.mark.parametrize("steps", [10, 64])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NEURONS)
def test_with_batch_normalisation(name, dtype, steps):
    plan = launch(name, steps=steps, dtype=dtype, affine=True)
    moved = traffic(plan)
    assert set(moved) == {"statistics", "forward", "sums", "backward"}
    state = membranes(plan, last=1) + 2 * membranes(plan, last=0)
    assert sum(moved.values()) - state <= budget(plan, 8)


@pytest.mark.parametrize("steps", [10, 64])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("pool", ["avg", "max"])
@pytest.mark.parametrize("name", NEURONS)
def test_with_batch_normalisation_and_pool(name, pool, dtype, steps):
    """Here even the membranes fit into the budget."""
    plan = launch(name, steps=steps, dtype=dtype, pool=pool, affine=True)
    moved = sum(traffic(plan).values())
    assert moved <= budget(plan, 6)
    state = membranes(plan, last=1) + 2 * membranes(plan, last=0)
    assert moved - state == budget(plan, 5.75)


def size(*tensors: Tensor | None) -> int:
    """Bytes of what is as large as a step or larger; numbers per channel are not counted."""
    return sum(t.numel() * t.element_size() for t in tensors if t is not None and t.dim() > 1)


@pytest.fixture
def moved(monkeypatch):
    """Bytes of the tensors that blocks hand to kernels and take from them, by call."""
    counts: dict[str, int] = {}

    def add(call, *tensors):
        counts[call] = counts.get(call, 0) + size(*tensors)

    def forward(launch, inputs):
        results = reference_kernels.forward(launch, inputs)
        add("forward", inputs.y, inputs.v, *results)
        return results

    def backward(launch, inputs, checkpoints, grad_out, grad_v, *, write=True, **options):
        rule = options.get("input_gradient")
        if callable(rule):  # as on a GPU, which goes back twice
            above = (launch, inputs, checkpoints, grad_out, grad_v)
            sums = backward(*above, write=False, mean=options["mean"])
            return sums._replace(y=backward(*above, input_gradient=rule(sums.sums)).y)
        results = reference_kernels.backward(
            launch, inputs, checkpoints, grad_out, grad_v, write=write, **options
        )
        read = (inputs.y, inputs.v, checkpoints, grad_out, grad_v)
        add("backward" if write else "sums", *read, results.y, results.v)
        return results

    kernels = SimpleNamespace(forward=forward, backward=backward)
    monkeypatch.setattr("snn.neurons.arguments.kernels", lambda executor: kernels)
    monkeypatch.setattr("snn.neurons.block.executor_for", lambda *_, **__: "numba")
    return counts


@pytest.mark.parametrize("pool", ["none", "avg", "max"])
@pytest.mark.parametrize("steps", [10, CHUNK + 1])
def test_blocks_move_what_the_plan_says(moved, pool, steps):
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(steps, *STEP, generator=generator).requires_grad_()
    norm, neuron = nn.BatchNorm2d(STEP[1]), Neuron(NEURONS["lt"])
    run_block(y, norm, neuron, pool=pool)[0].sum().backward()
    plan = traffic(launch("lt", steps=steps, dtype=torch.float32, pool=pool, affine=True))
    assert plan.pop("statistics") == y.numel() * 4  # read once, outside the kernels
    assert moved == plan
    moved.clear()
    run_block(y, norm.eval(), neuron, pool=pool)[0].sum().backward()
    assert moved == {call: plan[call] for call in ("forward", "backward")}  # one pass back is enough


def test_pooled_sizes_of_odd_frames():
    plan = Launch(NEURONS["lif"], 3, (2, 4, 5, 7), False, torch.float32, pool="max")
    assert plan.out_shape == (3, 2, 4, 2, 3)
    assert traffic(plan)["forward"] == 4 * (3 * prod(plan.shape) + prod(plan.out_shape) + prod(plan.shape))
