"""What every fused executor must do, launch by launch: the reference's values and gradients.

Subclass `KernelSuite`, set `forward` and `backward`, and collect the subclass in a test file. Every case
compares one launch with the reference, autograd and torch's own pooling.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from snn.neurons.kernels.launch import (
    CHUNK,
    Backward,
    Forward,
    InputGradient,
    Inputs,
    Launch,
    layout,
    like_steps,
)
from snn.neurons.membrane import MEMBRANES, MembraneSettings
from snn.neurons.reference import NeuronParameters, run_neurons
from snn.neurons.settings import PUBLISHED, NeuronSettings, published

LT = NeuronSettings(decay=0.7, threshold=0.8, gamma=0.8, threshold_gradient="subtract+explicit")
MLIF = replace(published("mlif"), upper_edge="subtract")

# Few of them, each with several options away from their defaults: a fused executor compiles for each.
SETTINGS: dict[str, NeuronSettings] = {
    "lif": published("lif"),
    "lt, explicit": LT,
    "product, squared": replace(published("lt_june_2022"), decay=0.6),
    "product_atan, soft": replace(LT, surrogate="product_atan", reset="soft", threshold_gradient="subtract"),
    "triangle_membrane, no threshold gradient": replace(
        LT, surrogate="triangle_membrane", threshold_gradient="none", fire_rule=">", reset="soft"
    ),
    "identity, soft detached": replace(LT, decay=1.0, surrogate="identity", reset="soft", detach_reset=True),
    "plif": NeuronSettings.PRESETS["plif"],
    "rest, decay_input, sigmoid": replace(LT, charge="decay_input", rest=0.2, surrogate="sigmoid"),
    "rest, soft, lane width, scaled surrogate": NeuronSettings(
        rest=-0.1, reset="soft", surrogate="atan", surrogate_width="lane", surrogate_scale=0.3
    ),
    "reset of all": NeuronSettings(reset="all", rest=0.1, gamma=0.5),
    "ternary membrane": published("quantlif_ternary"),
    "membrane of 23 levels": published("lif_floor23"),
    "membrane of 24 levels, soft": replace(LT, membrane=MEMBRANES["chip"], reset="soft"),
    "membrane, no gradient, lanes": replace(
        MLIF, membrane=MembraneSettings(levels=(-1.0, -0.5, 0.0, 0.5), gradient="zero")
    ),
    "mlif": MLIF,
    "mlif, soft_value, add": replace(
        MLIF, lanes=2, fire_rule=">=", reset="soft_value", detach_reset=False, upper_edge="add"
    ),
    "mlif, hard attached, add": replace(MLIF, upper_edge="add", detach_reset=False, scaled=True),
    "mlif, soft attached": replace(MLIF, lanes=4, reset="soft", detach_reset=False),
    "cumulative, soft_value, threshold width": NeuronSettings(
        lanes=4,
        scaled=True,
        firing="cumulative",
        reset="soft_value",
        surrogate="sigmoid",
        surrogate_width="threshold",
    ),
    "cumulative, hard, membrane width": NeuronSettings(lanes=2, firing="cumulative", gamma=1.5),
    "eight lanes, ignore_threshold": replace(published("mlif_kernel"), lanes=8, surrogate="triangle"),
}
FLOAT32 = ("lif", "lt, explicit", "ternary membrane", "mlif", "product, squared")


@dataclass(frozen=True)
class Case:
    """One launch to compare: its neurons, its sizes and what stands around the neurons."""

    settings: NeuronSettings
    shape: tuple[int, ...] = (5, 2, 3, 4, 5)
    dtype: torch.dtype = torch.float64
    channels_last: bool = False
    pool: str = "none"
    affine: bool = False
    masked: bool = False
    per_channel: bool = False
    threshold: float | None = None
    from_rest: bool = False
    grad_v: bool = True


class Drawn(NamedTuple):
    """A launch, what goes into it, and the gradients of what comes out."""

    launch: Launch
    inputs: Inputs
    grad_out: Tensor
    grad_v: Tensor | None


class Wanted(NamedTuple):
    """What the reference makes of a case; grad_x is the gradient after the affine map."""

    out: Tensor
    v: Tensor
    grad_y: Tensor
    grad_v: Tensor
    grad_threshold: Tensor
    grad_decay: Tensor
    grad_x: Tensor


GEOMETRIES: dict[str, Case] = {
    "[T, B]": Case(LT, (6, 7)),
    "[T, B, F] per channel": Case(LT, (4, 3, 37), per_channel=True),
    "[T, B, F] masked": Case(LT, (4, 3, 37), per_channel=True, masked=True, affine=True),
    "[T, B, C, L] per channel": Case(LT, (3, 2, 5, 11), per_channel=True, affine=True, masked=True),
    "one step": Case(LT, (1, 2, 3, 2, 2), per_channel=True),
    "one neuron": Case(LT, (9, 1, 1)),
    "many neurons": Case(LT, (3, 3, 5, 31, 29), per_channel=True, affine=True),
    "many neurons, channels last": Case(LT, (3, 3, 29, 13, 31), per_channel=True, channels_last=True),
    "very many neurons": Case(LT, (2, 3, 8, 80, 80), per_channel=True),
    "per channel": Case(LT, per_channel=True),
    "per channel, channels last": Case(LT, per_channel=True, channels_last=True),
    "affine, channels last": Case(LT, per_channel=True, channels_last=True, affine=True),
    "masked, channels last": Case(LT, per_channel=True, channels_last=True, affine=True, masked=True),
    "negative threshold": Case(LT, threshold=-0.3),
    "from rest": Case(LT, from_rest=True),
    "final membrane not used": Case(LT, grad_v=False),
    "from rest, final membrane not used": Case(LT, from_rest=True, grad_v=False, per_channel=True),
    "a whole chunk": Case(LT, (CHUNK, 2, 3, 3)),
    "a step more than a chunk": Case(LT, (CHUNK + 1, 2, 3, 3), affine=True, per_channel=True),
    "three chunks": Case(LT, (70, 2, 3, 5, 3), channels_last=True, masked=True, from_rest=True),
    **{
        f"{pool} pool {size}{', channels last' * last}": Case(
            LT, (4, 2, 3, *size), pool=pool, channels_last=last, affine=True, masked=True, per_channel=True
        )
        for pool in ("avg", "max")
        for size in ((4, 6), (5, 7), (1, 5), (2, 2), (3, 2))
        for last in (False, True)
    },
    **{
        f"{pool} pool {channels} x {size}{', channels last' * last}": Case(
            LT, (3, 2, channels, *size), pool=pool, channels_last=last, per_channel=True
        )
        for pool in ("avg", "max")
        for last, channels, size in (
            (False, 3, (47, 53)),
            (False, 2, (5, 4100)),
            (True, 47, (13, 21)),
            (True, 1030, (3, 5)),
        )
    },
    "max pool over lanes": Case(MLIF, (5, 2, 3, 5, 7), pool="max", affine=True),
    "three chunks, max pool": Case(LT, (70, 2, 3, 5, 5), pool="max", affine=True, per_channel=True),
}


def draw(case: Case) -> Drawn:
    """Draw the inputs of a case, always the same, in the layout a caller would bring them to."""
    source = torch.Generator().manual_seed(5)
    state = torch.promote_types(case.dtype, torch.float32)

    def normal(shape: tuple[int, ...], dtype: torch.dtype = state) -> Tensor:
        return torch.randn(shape, generator=source, dtype=torch.float64).to(dtype)

    def place(steps: Tensor) -> Tensor:
        placed = like_steps(tuple(steps.shape), steps, channels_last=case.channels_last, dtype=steps.dtype)
        return placed.copy_(steps)

    channels = case.shape[2] if len(case.shape) > 2 else 1
    size = channels if case.per_channel else 1
    threshold = torch.full((size,), case.settings.threshold if case.threshold is None else case.threshold)
    decay = torch.full((size,), case.settings.decay)
    y, v = place(normal(case.shape, case.dtype) * 1.4), place(normal(case.shape[1:]) * 0.7)
    inputs = Inputs(
        y,
        None if case.from_rest else v,
        threshold.to(state) * (1 + 0.2 * torch.rand(size, generator=source)).to(state),
        decay.to(state) * (1 - 0.2 * torch.rand(size, generator=source)).to(state),
        1 + 0.3 * normal((channels,)) if case.affine else None,
        0.3 * normal((channels,)) if case.affine else None,
        (normal(case.shape[:3]) > -0.5).to(state) * 1.1 if case.masked else None,
    )
    assert layout(y)[0] is y
    launch = Launch(
        case.settings,
        steps=case.shape[0],
        shape=case.shape[1:],
        channels_last=layout(y)[1],
        dtype=case.dtype,
        pool=case.pool,
        affine=case.affine,
        masked=case.masked,
    )
    grad_out = place(normal(launch.out_shape, case.dtype))
    return Drawn(launch, inputs, grad_out, place(normal(case.shape[1:])) if case.grad_v else None)


def want(drawn: Drawn) -> Wanted:
    """Run the reference and torch's autograd on the same inputs."""
    launch, inputs, grad_out, grad_v = drawn
    leaves = Inputs(*(None if tensor is None else tensor.detach().clone() for tensor in inputs))
    y, v = leaves.y, leaves.v
    if v is None:
        v = torch.full_like(y[0], launch.settings.rest, dtype=launch.state_dtype)
    for leaf in (y, v, leaves.threshold, leaves.decay):
        leaf.requires_grad_()
    x = y.to(launch.state_dtype)
    if leaves.scale is not None:
        per_channel = (-1, *[1] * (len(launch.shape) - 2))
        x = x * leaves.scale.reshape(per_channel) + leaves.shift.reshape(per_channel)
    x.requires_grad_()
    parameters = NeuronParameters(leaves.threshold, decay=leaves.decay)
    spikes, final = run_neurons(x, v, parameters, settings=launch.settings, mask=leaves.mask)
    out = pool_steps(spikes, launch.pool).to(launch.dtype)
    learned = (y, v, leaves.threshold, leaves.decay, x)
    follows = [(out, grad_out)]
    if grad_v is not None and final.requires_grad:
        follows.append((final, grad_v))
    grads = torch.autograd.grad(
        [result for result, _ in follows],
        learned,
        [grad for _, grad in follows],
        allow_unused=True,
        materialize_grads=True,
    )
    return Wanted(out.detach(), final.detach(), *grads)


def pool_steps(spikes: Tensor, pool: str) -> Tensor:
    """Pool spikes [T, B, C, H, W] by torch's own functions."""
    if pool == "none":
        return spikes
    *_, height, width = spikes.shape
    if height < 2 or width < 2:
        return spikes[..., : height // 2, : width // 2]
    rule = {"avg": avg_pool2d, "max": max_pool2d}[pool]
    return rule(spikes.flatten(0, 1), 2).unflatten(0, spikes.shape[:2])


def channel_sums(g: Tensor, y: Tensor, mean: Tensor) -> Tensor:
    """Return the sums over all but the channels of g and of g (y - mean), shape [2, C]."""
    rest = [d for d in range(g.dim()) if d != 2]
    centred = y.to(g.dtype) - mean.reshape(-1, *[1] * (g.dim() - 3))
    return torch.stack([g.sum(rest), (g * centred).sum(rest)])


class KernelSuite:
    """Conformance tests of one fused executor.

    Attributes:
        forward: `forward(launch, inputs) -> Forward`.
        backward: `backward(launch, inputs, checkpoints, grad_out, grad_v, *, write, input_gradient, mean)`.
        tolerances: Relative and absolute tolerance of gradients by dtype; sums over neurons get the
            absolute one times the root of the number of summands.
    """

    forward: Callable[..., Forward]
    backward: Callable[..., Backward]
    tolerances: ClassVar[dict[torch.dtype, tuple[float, float]]] = {
        torch.float64: (1e-9, 1e-11),
        torch.float32: (2e-5, 1e-5),
    }

    @pytest.fixture(autouse=True)
    def _dirty_memory(self):
        """Fill every uninitialised tensor with NaN."""
        torch.use_deterministic_algorithms(True)
        yield
        torch.use_deterministic_algorithms(False)

    def close(self, found: Tensor, wanted: Tensor, drawn: Drawn, *, summands: int = 1) -> None:
        relative, absolute = self.tolerances[drawn.launch.dtype]
        torch.testing.assert_close(
            found, wanted.reshape(found.shape).to(found.dtype), rtol=relative, atol=absolute * summands**0.5
        )

    def compare(self, case: Case) -> None:
        """Compare one launch, forward and backward, with the reference."""
        drawn = draw(case)
        launch, inputs, grad_out, grad_v = drawn
        wanted = want(drawn)
        before = [None if tensor is None else tensor.clone() for tensor in inputs]
        forward = self.forward(launch, inputs)
        assert forward.out.shape == launch.out_shape
        assert forward.out.dtype == launch.dtype
        assert torch.equal(forward.out, wanted.out)
        assert forward.v.dtype == launch.state_dtype
        assert forward.checkpoints.shape == launch.checkpoints_shape
        self.close(forward.v, wanted.v, drawn)
        found = self.backward(launch, inputs, forward.checkpoints, grad_out, grad_v)
        assert found.y is not None
        self.close(found.y, wanted.grad_x, drawn)
        if inputs.v is not None:  # from rest there is no first membrane to have a gradient
            assert found.v is not None
            self.close(found.v, wanted.grad_v, drawn)
        self.compare_parameters(found, wanted, drawn)
        assert found.sums is None
        assert found.threshold.shape == inputs.threshold.shape
        assert found.decay.shape == inputs.decay.shape
        for tensor, copy in zip(inputs, before, strict=True):
            assert tensor is None or torch.equal(tensor, copy)
        for tensor in (forward.out, found.y):
            steps = tensor.movedim(2, -1) if launch.channels_last else tensor
            assert steps.is_contiguous()

    def compare_parameters(self, found: Backward, wanted: Wanted, drawn: Drawn) -> None:
        summands = drawn.inputs.y.numel()
        self.close(found.threshold, wanted.grad_threshold, drawn, summands=summands)
        self.close(found.decay, wanted.grad_decay, drawn, summands=summands)

    @pytest.mark.parametrize("name", SETTINGS)
    def test_option(self, name):
        self.compare(Case(SETTINGS[name], (7, 2, 3, 5, 3)))

    @pytest.mark.parametrize("name", FLOAT32)
    def test_float32(self, name):
        self.compare(Case(SETTINGS[name], (6, 2, 3, 9, 11), dtype=torch.float32, per_channel=True))

    @pytest.mark.parametrize("name", GEOMETRIES)
    def test_geometry(self, name):
        self.compare(GEOMETRIES[name])

    def test_checkpoints_are_the_membranes_before_the_chunks(self):
        drawn = draw(Case(LT, (70, 3, 5), affine=True))
        forward = self.forward(drawn.launch, drawn.inputs)
        assert forward.checkpoints.shape == (2, 3, 5)
        for k in range(2):
            steps = (k + 1) * CHUNK
            shorter = replace(drawn.launch, steps=steps)
            inputs = drawn.inputs._replace(y=drawn.inputs.y[:steps])
            torch.testing.assert_close(forward.checkpoints[k], self.forward(shorter, inputs).v)

    @pytest.mark.parametrize("pool", ["none", "avg", "max"])
    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("shape", [(3, 2, 5, 5, 4), (35, 2, 3, 4, 4)], ids=str)
    def test_passes_of_batch_normalisation(self, pool, channels_last, shape):
        drawn = draw(
            Case(
                LT, shape, affine=True, masked=True, pool=pool, channels_last=channels_last, per_channel=True
            )
        )
        launch, inputs, grad_out, grad_v = drawn
        wanted = want(drawn)
        checkpoints = self.forward(launch, inputs).checkpoints
        mean = inputs.y.flatten(3).mean((0, 1, 3))
        sums = self.backward(launch, inputs, checkpoints, grad_out, grad_v, write=False, mean=mean)
        assert sums.y is None
        assert sums.sums is not None
        assert sums.sums.shape == (2, shape[2])
        self.close(sums.sums, channel_sums(wanted.grad_x, inputs.y, mean), drawn, summands=inputs.y.numel())
        self.compare_parameters(sums, wanted, drawn)

        draw_more = torch.Generator().manual_seed(8)
        terms = [torch.randn(shape[2], generator=draw_more, dtype=torch.float64) for _ in range(3)]
        terms = [term.to(launch.state_dtype) for term in terms]
        formula = InputGradient(terms[0], terms[1], mean, terms[2])
        found = self.backward(launch, inputs, checkpoints, grad_out, grad_v, input_gradient=formula)
        g_scale, y_scale, centre, shift = (term.reshape(-1, 1, 1) for term in formula)
        assert found.y is not None
        assert found.v is not None
        expected = g_scale * wanted.grad_x + y_scale * (inputs.y - centre) + shift
        self.close(found.y, expected, drawn)
        self.close(found.v, wanted.grad_v, drawn)

        def from_sums(given):
            assert torch.equal(given, sums.sums)
            return formula

        both = self.backward(
            launch, inputs, checkpoints, grad_out, grad_v, mean=mean, input_gradient=from_sums
        )
        assert torch.equal(both.y, found.y)
        assert torch.equal(both.v, found.v)
        assert torch.equal(both.sums, sums.sums)
        self.compare_parameters(both, wanted, drawn)

    def test_sums_and_gradient_in_one_call(self):
        drawn = draw(Case(LT, (4, 3, 7), per_channel=True))
        launch, inputs, grad_out, grad_v = drawn
        wanted, mean = want(drawn), torch.linspace(-1, 1, 7, dtype=torch.float64)
        checkpoints = self.forward(launch, inputs).checkpoints
        found = self.backward(launch, inputs, checkpoints, grad_out, grad_v, mean=mean)
        self.close(found.y, wanted.grad_x, drawn)
        self.close(found.sums, channel_sums(wanted.grad_x, inputs.y, mean), drawn, summands=84)

    def test_twice_the_same(self):
        drawn = draw(Case(LT, (5, 4, 8, 17, 13), dtype=torch.float32, affine=True, per_channel=True))
        launch, inputs, grad_out, grad_v = drawn
        mean = torch.zeros(8)
        runs = []
        for _ in range(2):
            checkpoints = self.forward(launch, inputs).checkpoints
            runs.append(self.backward(launch, inputs, checkpoints, grad_out, grad_v, mean=mean))
        for first, second in zip(*runs, strict=True):
            assert torch.equal(first, second)

    def test_nan_stays_in_its_neuron(self):
        drawn = draw(Case(LT, (4, 2, 3), dtype=torch.float64))
        inputs = drawn.inputs._replace(y=drawn.inputs.y.clone())
        inputs.y[1, 0, 2] = float("nan")
        wanted = want(drawn._replace(inputs=inputs))
        forward = self.forward(drawn.launch, inputs)
        assert torch.equal(forward.out, wanted.out)
        assert torch.equal(forward.v.isnan(), wanted.v.isnan())

    def test_every_published_neuron_is_compared(self):
        compared = {choice for s in SETTINGS.values() for choice in _choices(s)}
        for name, settings in PUBLISHED.items():
            if settings.spike_value == "one":
                assert _choices(settings) <= compared, name


def _choices(settings: NeuronSettings) -> set[tuple[str, str]]:
    """Return the options of a neuron that change what is computed, with their values."""
    names = ("charge", "threshold_gradient", "firing", "fire_rule", "reset", "surrogate", "surrogate_width")
    found = {(name, str(getattr(settings, name))) for name in (*names, "upper_edge", "detach_reset")}
    return found | {("rounding", settings.membrane.rounding), ("gradient", settings.membrane.gradient)}
