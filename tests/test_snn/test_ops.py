"""Fused neurons as operators: what torch is told about them, and that it is true."""

from dataclasses import replace

import pytest
import torch
from functorch.compile import make_boxed_func
from suites import reference_kernels
from torch import nn
from torch._dynamo.backends.common import aot_autograd

from snn.neurons import arguments, executors, ops
from snn.neurons.arguments import settings_from_text, settings_text
from snn.neurons.kernels.launch import CHUNK
from snn.neurons.membrane import MEMBRANES, MembraneSettings
from snn.neurons.modules import LIF, LT, MLIF, PLIF, Neuron
from snn.neurons.reference import NeuronParameters
from snn.neurons.reference import run_neurons as run_reference
from snn.neurons.settings import NEURONS, PUBLISHED, NeuronSettings

SMOOTH = NeuronSettings(surrogate="atan", reset="soft", detach_reset=True, decay=0.6)
EVERYTHING = NeuronSettings(
    decay=0.75,
    learn_decay=True,
    threshold=0.4,
    per_channel=True,
    lanes=3,
    reset="soft_value",
    membrane=MembraneSettings(levels=(-1.0, -0.25, 0.1, 0.75)),
    surrogate_width="lane",
)


@pytest.fixture(autouse=True)
def kernels(request, monkeypatch):
    """Operators stand over kernels that cannot be wrong, and in some tests over those that run here.

    A program of Numba's takes seconds to compile, and its numbers are tested elsewhere.
    """
    executors.choose_executor.cache_clear()
    if getattr(request, "param", None) != "numba":
        monkeypatch.setattr(arguments, "kernels", lambda executor: reference_kernels)
    yield
    executors.choose_executor.cache_clear()


NUMBA_TOO = pytest.mark.parametrize("kernels", ["reference arithmetic", "numba"], indirect=True)


def draw(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def channels_last(x):
    return x.movedim(2, -1).contiguous().movedim(-1, 2)


def with_gaps(x):
    return torch.stack([x, x + 1], dim=-1)[..., 0]


def batch_first(x):
    return x.transpose(0, 1).contiguous().transpose(0, 1)


LAYOUTS = {"contiguous": torch.clone, "channels last": channels_last, "gaps": with_gaps, "batch": batch_first}


def run(current, v, parameters, *, settings, mask=None):
    return executors.run_neurons(current, v, parameters, settings=settings, mask=mask, executor="numba")


def leaves(settings, shape, *, seed=0, dtype=torch.float32):
    """Current, first membrane, threshold and decay to differentiate by."""
    numbers = shape[2] if settings.per_channel else 1
    given = {
        "current": draw(*shape, seed=seed, dtype=dtype),
        "v": draw(*shape[1:], seed=seed + 1, dtype=dtype),
        "threshold": torch.linspace(0.3, 0.8, numbers, dtype=dtype),
        "decay": torch.linspace(0.4, 0.9, numbers, dtype=dtype),
    }
    return {name: value.requires_grad_() for name, value in given.items()}


class TestSettingsText:
    @pytest.mark.parametrize("settings", [*NEURONS.values(), *PUBLISHED.values(), EVERYTHING])
    def test_comes_back_as_it_was(self, settings):
        assert settings_from_text(settings_text(settings)) == settings

    def test_numbers_keep_every_digit(self):
        settings = replace(
            EVERYTHING, decay=1 / 3, threshold=2**-40, membrane=replace(MEMBRANES["chip"], slope=0.1 + 0.2)
        )
        found = settings_from_text(settings_text(settings))
        assert (found.decay, found.threshold, found.membrane.slope) == (1 / 3, 2**-40, 0.1 + 0.2)


def forward_arguments(y, v, threshold, decay, mask, *, settings):
    """Neurons alone: no normalisation, no pool."""
    nothing = (None,) * 4
    return (y, v, threshold, decay, *nothing, mask, settings_text(settings), "numba", "none", "none", 0.0)


def backward_arguments(y, v, threshold, decay, mask, checkpoints, grad_out, grad_v, *, settings):
    *tensors, text, executor, pool, norm, eps = forward_arguments(
        y, v, threshold, decay, mask, settings=settings
    )
    return (*tensors, checkpoints, grad_out, grad_v, text, executor, pool, norm, eps, True)


class TestDeclaration:
    """What was declared is what happens: schema, shapes, strides, gradients, symbolic sizes."""

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_opcheck(self, layout):
        given = leaves(EVERYTHING, (3, 2, 3, 4, 5))
        y = LAYOUTS[layout](given["current"].detach()).requires_grad_()
        mask = (draw(3, 2, 3) > 0).float()
        tensors = (y, given["v"], given["threshold"], given["decay"], mask)
        self.check(EVERYTHING, tensors, grad_v=draw(2, 3, 4, 5))

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
    def test_opcheck_with_the_least(self, dtype):
        y = draw(CHUNK + 3, 2, dtype=dtype).requires_grad_()
        self.check(NEURONS["lif"], (y, None, torch.tensor(1.0), None, None))

    @pytest.mark.parametrize("kernels", ["numba"], indirect=True)
    def test_opcheck_of_compiled_kernels(self):
        y = channels_last(draw(3, 2, 3, 4, 5)).requires_grad_()
        threshold = torch.full((3,), 0.5, requires_grad=True)
        self.check(NEURONS["lt"], (y, draw(2, 3, 4, 5), threshold, None, None), grad_v=draw(2, 3, 4, 5))

    def check(self, settings, given, *, grad_v=None):
        torch.library.opcheck(ops.neuron_forward, forward_arguments(*given, settings=settings))
        constants = [x if x is None else x.detach() for x in given]
        y = constants[0]
        _, _, checkpoints, *_ = ops.neuron_forward(*forward_arguments(*constants, settings=settings))
        assert len(checkpoints) == (len(y) - 1) // CHUNK
        gradients = (checkpoints, draw(*y.shape).to(y.dtype), grad_v)
        torch.library.opcheck(
            ops.neuron_backward, backward_arguments(*constants, *gradients, settings=settings)
        )

    def test_opcheck_of_a_gradient_to_differentiate(self):
        given = leaves(SMOOTH, (2, 2, 3))
        checkpoints, gradient = torch.zeros(0, 2, 3), draw(2, 2, 3).requires_grad_()
        torch.library.opcheck(
            ops.neuron_backward,
            backward_arguments(*given.values(), None, checkpoints, gradient, None, settings=SMOOTH),
        )

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_results_lie_in_memory_as_the_current_does(self, layout):
        y = LAYOUTS[layout](draw(CHUNK + 3, 2, 3, 4, 5))
        results = ops.neuron_forward(
            *forward_arguments(y, None, torch.tensor(1.0), None, None, settings=SMOOTH)
        )
        for result in results[:3]:
            in_memory = result.movedim(-3, -1) if layout == "channels last" else result
            assert in_memory.is_contiguous()


class TestGradients:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("settings", [EVERYTHING, SMOOTH, PUBLISHED["lt"]])
    @pytest.mark.parametrize("steps", [3, CHUNK + 3])
    def test_equal_the_reference(self, settings, layout, steps):
        shape = (steps, 2, 3, 4, 5)
        given = leaves(settings, shape, dtype=torch.float64)
        mask = (draw(*shape[:3], seed=5) > -1).double()
        grads = (draw(*shape, seed=6, dtype=torch.float64), draw(*shape[1:], seed=7, dtype=torch.float64))
        found = []
        for runner in (run, run_reference):
            current = LAYOUTS[layout](given["current"])
            parameters = NeuronParameters(given["threshold"], None, given["decay"])
            results = runner(current, given["v"], parameters, settings=settings, mask=mask)
            found.append((*results, *torch.autograd.grad(results, list(given.values()), grads)))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_expanded_gradients(self, layout):
        found = []
        for runner in (run, run_reference):
            given = leaves(SMOOTH, (4, 2, 3, 4, 5))
            parameters = NeuronParameters(given["threshold"], None, given["decay"])
            spikes, v = runner(LAYOUTS[layout](given["current"]), given["v"], parameters, settings=SMOOTH)
            (spikes.mean() + v.sum()).backward()
            found.append([tensor.grad for tensor in given.values()])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("used", [0, 1])
    def test_of_one_result_alone(self, used):
        found = []
        for runner in (run, run_reference):
            given = leaves(SMOOTH, (4, 2, 3))
            parameters = NeuronParameters(given["threshold"], None, given["decay"])
            result = runner(given["current"], given["v"], parameters, settings=SMOOTH)[used]
            found.append(torch.autograd.grad(result.square().sum(), list(given.values())))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)

    def test_parameters_keep_their_shape_and_dtype(self):
        current = draw(4, 2, 3).requires_grad_()
        threshold = torch.full((1,), 0.5, dtype=torch.float64, requires_grad=True)
        decay = torch.full((3,), 0.5, dtype=torch.bfloat16, requires_grad=True)
        run(current, None, NeuronParameters(threshold, None, decay), settings=SMOOTH)[0].sum().backward()
        assert (threshold.grad.shape, threshold.grad.dtype) == ((1,), torch.float64)
        assert (decay.grad.shape, decay.grad.dtype) == ((3,), torch.bfloat16)
        assert threshold.grad.item() < 0

    def test_of_a_mask_that_learns(self):
        found = []
        for runner in (run, run_reference):
            current = draw(4, 2, 3, 5).to(torch.bfloat16).requires_grad_()
            mask = draw(4, 2, 3, seed=1).sigmoid().requires_grad_()
            spikes, _ = runner(current, None, NeuronParameters(torch.tensor(0.5)), settings=SMOOTH, mask=mask)
            assert spikes.dtype == torch.bfloat16
            found.append(torch.autograd.grad(spikes.float().sum(), (current, mask)))
        assert found[0][1].abs().sum() > 0
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b)

    def test_threshold_that_learns_from_nothing_has_none(self):
        threshold = torch.tensor(0.5, requires_grad=True)
        settings = replace(SMOOTH, threshold_gradient="none")
        current = draw(4, 2, 3).requires_grad_()
        run(current, None, NeuronParameters(threshold), settings=settings)[0].sum().backward()
        assert threshold.grad is None
        assert current.grad.abs().sum() > 0

    def test_no_neurons(self):
        current = torch.zeros(3, 0, 4, requires_grad=True)
        threshold = torch.ones(4, requires_grad=True)
        spikes, v = run(current, None, NeuronParameters(threshold), settings=SMOOTH)
        (spikes.sum() + v.sum()).backward()
        assert (spikes.shape, v.shape, current.grad.shape) == ((3, 0, 4), (0, 4), (3, 0, 4))
        assert threshold.grad.tolist() == [0, 0, 0, 0]


class TestSecondOrder:
    def test_equals_the_reference(self):
        settings = replace(EVERYTHING, detach_reset=True)
        found = []
        for runner in (run, run_reference):
            given = leaves(settings, (4, 2, 3), dtype=torch.float64)
            parameters = NeuronParameters(given["threshold"], None, given["decay"])
            spikes, v = runner(given["current"], given["v"], parameters, settings=settings)
            weight = draw(4, 2, 3, seed=8, dtype=torch.float64).requires_grad_()
            first = torch.autograd.grad(
                (spikes * weight).sum() + v.square().sum(), list(given.values()), create_graph=True
            )
            penalty = sum(g.square().sum() for g in first)
            found.append(torch.autograd.grad(penalty, [*given.values(), weight]))
        assert all(g.abs().sum() > 0 for g in found[0])
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)

    def test_where_all_neurons_return_to_rest(self):
        current = draw(4, 2, 3, dtype=torch.float64).requires_grad_()
        settings = replace(SMOOTH, reset="all", decay=0.0)
        found = []
        for runner in (run, run_reference):
            spikes, _ = runner(current, None, NeuronParameters(torch.tensor(0.5).double()), settings=settings)
            (first,) = torch.autograd.grad(spikes.sum(), current, create_graph=True)
            found.append(torch.autograd.grad(first.square().sum(), current))
        torch.testing.assert_close(*found)

    def test_third_order(self):
        found = []
        for runner in (run, run_reference):
            current = draw(3, 2, 3, dtype=torch.float64).requires_grad_()
            order = runner(current, None, NeuronParameters(torch.tensor(0.5).double()), settings=SMOOTH)[
                0
            ].sum()
            for _ in range(2):
                (gradient,) = torch.autograd.grad(order, current, create_graph=True)
                order = gradient.square().sum()
            found.append(torch.autograd.grad(order, current))
        torch.testing.assert_close(*found)

    def test_without_first_membrane_and_decay(self):
        current = draw(4, 2, 3, dtype=torch.float64).requires_grad_()
        threshold = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
        found = []
        for runner in (run, run_reference):
            spikes, _ = runner(current, None, NeuronParameters(threshold), settings=SMOOTH)
            (first,) = torch.autograd.grad(spikes.sum(), current, create_graph=True)
            found.append(torch.autograd.grad(first.square().sum(), (current, threshold)))
        for a, b in zip(*found, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)

    def test_agrees_with_finite_differences(self):
        # Spikes are steps, so the gradient itself, smooth in all it depends on, is what is differentiated.
        given = leaves(SMOOTH, (3, 2, 2), dtype=torch.float64)

        def gradient(current, v, threshold, decay):
            given = (current, v, threshold, decay)
            parameters = NeuronParameters(threshold, None, decay)
            spikes, _ = run(current, v, parameters, settings=SMOOTH)
            return torch.autograd.grad(spikes.sum(), given, create_graph=True)

        assert torch.autograd.gradcheck(gradient, tuple(given.values()))


class TestMemory:
    @NUMBA_TOO
    @pytest.mark.parametrize("steps", [10, 100])
    def test_saved_bytes(self, steps):
        neuron = LT(executor="numba")
        current = draw(steps, 4, 8, 16, 16).requires_grad_()
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
            neuron(current)
        memory = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in saved}
        assert current.data_ptr() in memory
        assert sum(memory.values()) / current.numel() <= 4.5

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_nothing_is_saved_without_gradients(self, mode):
        neuron = LT(executor="numba")
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x), mode():
            spikes = neuron(draw(5, 2, 3).requires_grad_())
        assert saved == []
        assert not spikes.requires_grad


class TestPrecision:
    @NUMBA_TOO
    def test_autocast_keeps_what_the_convolution_hands_on(self):
        conv, neuron = nn.Conv2d(2, 3, 3, padding=1), MLIF(threshold=0.2, executor="numba")
        x = draw(4, 2, 2, 5, 5)
        with torch.autocast("cpu", torch.bfloat16):
            current = conv(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            spikes, v = neuron.run(current)
        assert (current.dtype, spikes.dtype, v.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
        assert set(spikes.unique().tolist()) <= {0.0, 1.0, 2.0, 4.0}
        expected, _ = MLIF(threshold=0.2, executor="reference").run(current)
        assert torch.equal(spikes, expected)
        spikes.sum().backward()
        assert conv.weight.grad.dtype == torch.float32

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_module_of_half_precision_has_a_state_of_float32(self, dtype):
        neuron = Neuron(replace(EVERYTHING, per_channel=False), executor="numba").to(dtype)
        current = draw(4, 2, 3).to(dtype).requires_grad_()
        spikes, v = neuron.run(current)
        assert (spikes.dtype, v.dtype) == (dtype, torch.float32)
        spikes.sum().backward()
        assert (current.grad.dtype, neuron.threshold.grad.dtype) == (dtype, dtype)


def graphs_of(model, x):
    """Compile a model, run it both ways on x, and return gradients of both and the two traced graphs."""
    graphs = []

    def keep(graph, inputs):
        graphs.append(graph)
        return make_boxed_func(graph)

    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=aot_autograd(fw_compiler=keep, bw_compiler=keep))
    results = []
    for runner in (model, compiled):
        model.zero_grad()
        given = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        out = runner(given)
        out.square().sum().backward()
        found = [p.grad for p in model.parameters() if p.grad is not None]
        results.append([out.detach(), given.grad, *(grad.clone() for grad in found)])
    return results, graphs


def nodes(graph, name):
    target = getattr(torch.ops.spikeline, name).default
    return sum(node.target == target for node in graph.graph.nodes)


class TestTracing:
    @NUMBA_TOO
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_compiled_graphs_hold_one_node_each(self, layout):
        model = nn.Sequential(
            LT(executor="numba"), PLIF(executor="numba"), MLIF(threshold=0.3, executor="numba")
        )
        x = LAYOUTS[layout](draw(4, 2, 3, 4, 5))
        (eager, compiled), (forward, backward) = graphs_of(model, x)
        for a, b in zip(eager, compiled, strict=True):
            assert torch.equal(a, b)
            assert a.stride() == b.stride()
        assert (nodes(forward, "neuron_forward"), nodes(backward, "neuron_backward")) == (3, 3)
        # What the operators do inside is not to be seen outside.
        computing = [node for node in forward.graph.nodes if node.op == "call_function"]
        assert len(computing) <= 3 + 3 * 3 + 1  # operators, their results, the sigmoid of PLIF

    @pytest.mark.parametrize("kernels", ["numba"], indirect=True)
    def test_inductor(self):
        # Nothing but operators, so that no C++ is compiled.
        neuron = LT(executor="numba")
        compiled = torch.compile(neuron, fullgraph=True)
        x = channels_last(draw(3, 2, 3, 4, 4)).requires_grad_()
        spikes, expected = compiled(x), neuron(x)
        assert torch.equal(spikes, expected)
        assert spikes.stride() == expected.stride()
        weight = draw(3, 2, 3, 4, 4, seed=1)
        found = [torch.autograd.grad(s, (x, neuron.threshold), weight) for s in (spikes, expected)]
        for a, b in zip(*found, strict=True):
            assert torch.equal(a, b)

    def test_compiled_anew_for_other_settings(self):
        neuron = LIF(executor="numba")
        compiled = torch.compile(neuron, fullgraph=True, backend="aot_eager")
        x = 3 * draw(4, 2, 3)
        assert torch.equal(compiled(x), neuron(x))
        neuron.settings = NEURONS["mlif"]
        assert compiled(x).max() == neuron(x).max() > 1

    def test_reference_compiles_too(self):
        neuron = LT(executor="reference")
        compiled = torch.compile(neuron, fullgraph=True, backend="aot_eager")
        x = draw(4, 2, 3)
        assert torch.equal(compiled(x), neuron(x))

    @pytest.mark.parametrize("strict", [False, True])
    def test_export_with_any_batch_size(self, strict):
        model = nn.Sequential(LT(executor="numba"), PLIF(executor="numba"))
        x = draw(4, 3, 2, 4, 5)
        batch = torch.export.Dim("B", min=1, max=64)
        program = torch.export.export(model, (x,), dynamic_shapes=({1: batch},), strict=strict)
        assert nodes(program.graph_module, "neuron_forward") == 2
        assert nodes(program.run_decompositions().graph_module, "neuron_forward") == 2
        for size in (1, 3, 7):
            x = draw(4, size, 2, 4, 5)
            assert torch.equal(program.module()(x), model(x))
