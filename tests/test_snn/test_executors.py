"""Which program runs the neurons, what is said about it, and that each does what the definition says."""

import logging
from dataclasses import replace
from functools import partial

import pytest
import torch
from suites import reference_kernels
from suites.neuron_suite import NeuronSuite

from snn.errors import NeuronError
from snn.neurons import arguments, executors
from snn.neurons.executors import Choice, choose_executor, executor_for, explain, run_neurons
from snn.neurons.kernels import cuda, numba_cpu
from snn.neurons.reference import NeuronParameters
from snn.neurons.settings import NEURONS, NeuronSettings

LIF = NEURONS["lif"]
LEARNED = NeuronSettings(spike_value="learned")
ONE = NeuronParameters(torch.tensor(1.0), torch.tensor(1.0))


@pytest.fixture(autouse=True)
def no_memory_of_choices():
    """What was chosen or logged before does not count here, nor what is here later."""
    caches = (choose_executor, executors._report)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


class TestThroughOperators(NeuronSuite):
    """All that stands between `run_neurons` and the kernels, over kernels that cannot be wrong."""

    run = staticmethod(partial(run_neurons, executor="numba"))
    # Operators compute nothing: what is rounded where is the same as above.
    test_every_setting_on_the_boundaries = None

    @pytest.fixture(autouse=True)
    def _kernels(self, monkeypatch):
        monkeypatch.setattr(arguments, "kernels", lambda executor: reference_kernels)


class TestChoice:
    def test_auto_takes_numba_on_the_cpu(self):
        choice = choose_executor("auto", device_type="cpu", dtype=torch.float32, settings=LIF)
        assert choice == Choice("numba")

    def test_what_is_not_fused_falls_back_and_says_so(self):
        for wanted in ("auto", "numba"):
            choice = choose_executor(wanted, device_type="cpu", dtype=torch.float32, settings=LEARNED)
            assert choice == Choice("reference", ("numba: spike_value 'learned' is not fused",))

    def test_the_reference_passes_over_nothing(self):
        assert choose_executor("reference", device_type="cpu", dtype=torch.float32, settings=LIF) == Choice(
            "reference"
        )

    def test_auto_on_a_gpu_asks_the_cuda_kernels(self, monkeypatch):
        monkeypatch.setattr(cuda, "why_not", lambda settings, *, dtype: "CuPy is not installed")
        choice = choose_executor("auto", device_type="cuda", dtype=torch.float32, settings=LIF)
        assert choice == Choice("reference", ("cuda: CuPy is not installed",))
        choose_executor.cache_clear()
        monkeypatch.setattr(cuda, "why_not", lambda settings, *, dtype: None)
        choice = choose_executor("auto", device_type="cuda", dtype=torch.float32, settings=LIF)
        assert choice == Choice("cuda")

    def test_a_device_nobody_wrote_for(self):
        choice = choose_executor("auto", device_type="mps", dtype=torch.float32, settings=LIF)
        assert choice == Choice("reference", ("no fused neurons for device mps",))

    def test_an_executor_of_another_device_is_refused(self):
        with pytest.raises(
            NeuronError,
            match=r"executor: found 'cuda' for a current on cpu, expected one of auto, numba, reference",
        ):
            run_neurons(torch.zeros(2, 3), None, ONE, settings=LIF, executor="cuda")

    def test_unknown_executor(self):
        with pytest.raises(NeuronError, match=r"executor: found 'nunba', .* did you mean 'numba'\?"):
            choose_executor("nunba", device_type="cpu", dtype=torch.float32, settings=LIF)


class TestWords:
    def test_explain(self):
        given = {"device_type": "cpu", "dtype": torch.float32}
        assert explain(LIF, **given) == "numba (fused on the CPU)"
        assert explain(LIF, **given, executor="reference") == "reference (plain torch, step by step)"
        assert explain(LEARNED, **given) == (
            "reference (plain torch, step by step); numba: spike_value 'learned' is not fused"
        )

    def test_each_reason_is_logged_once(self, caplog):
        logging.getLogger("snn").propagate = True
        for size in (1, 2, 3):
            run_neurons(torch.zeros(2, size), None, ONE, settings=LEARNED)
            run_neurons(torch.zeros(2, size), None, ONE, settings=LIF)
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            (
                "WARNING",
                "neurons run in plain torch, which is slower: numba: spike_value 'learned' is not fused",
            )
        ]

    def test_the_reference_asked_for_is_no_news(self, caplog):
        run_neurons(torch.zeros(2, 1), None, ONE, settings=LEARNED, executor="reference")
        assert caplog.records == []

    @pytest.mark.parametrize(("wanted", "level"), [("auto", "INFO"), ("numba", "WARNING")])
    def test_numba_that_is_not_installed(self, wanted, level, monkeypatch, caplog):
        caplog.set_level(logging.INFO, logger="snn")
        monkeypatch.setattr(numba_cpu, "why_not", lambda settings, *, dtype: "not installed")
        monkeypatch.setattr(executors, "find_spec", lambda name: None)
        assert executor_for(wanted, device_type="cpu", dtype=torch.float32, settings=LIF) == "reference"
        assert [record.levelname for record in caplog.records] == [level]


class TestRefusals:
    """Bad input is refused before any kernel sees it, whatever would run it."""

    @pytest.fixture(autouse=True)
    def _kernels(self, monkeypatch):
        class Never:
            @staticmethod
            def why_not(settings, *, dtype):
                return None

        monkeypatch.setattr(arguments, "kernels", lambda executor: Never)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"current": torch.zeros(3)}, r"current: found shape \(3,\), expected \[T, B, \.\.\.\]"),
            ({"current": torch.zeros(3, 2, 4, dtype=torch.int32)}, r"current: found dtype torch\.int32"),
            ({"v": torch.zeros(2, 5)}, r"v: found shape \(2, 5\), expected .* \(2, 4\)"),
            ({"v": torch.zeros(2, 4).half()}, r"v: found dtype torch\.float16, expected torch\.float32"),
            ({"v": torch.zeros(2, 4, device="meta")}, r"v: found on meta, expected .* cpu"),
            ({"mask": torch.ones(3, 2)}, r"mask: found shape \(3, 2\)"),
            ({"threshold": torch.ones(3)}, r"threshold: found shape \(3,\), expected .* \[4\]"),
            ({"threshold": torch.tensor(float("inf"))}, r"threshold: found a value that is not finite"),
            ({"decay": torch.ones(4, device="meta")}, r"decay: found on meta"),
        ],
    )
    def test_bad_input(self, change, message):
        given = {"current": torch.zeros(3, 2, 4), "v": None, "threshold": torch.tensor(1.0), "decay": None}
        given |= {"mask": None, **change}
        parameters = NeuronParameters(given["threshold"], None, given["decay"])
        with pytest.raises(NeuronError, match=message):
            run_neurons(
                given["current"],
                given["v"],
                parameters,
                settings=LIF,
                mask=given["mask"],
                executor="numba",
            )


@pytest.mark.parametrize("name", ["lif", "mlif"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_compiled_kernels_agree_with_the_reference(name, dtype):
    settings = replace(NEURONS[name], threshold=0.5)
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(40, 2, 3, 5, 4, generator=generator), torch.randn(2, 3, 5, 4, generator=generator)]
    given = [given[0].to(dtype), given[1], torch.tensor(0.5)]
    weight = torch.randn(40, 2, 3, 5, 4, generator=generator)
    found = []
    for executor in ("numba", "reference"):
        inputs = [x.clone().requires_grad_() for x in given]
        parameters = NeuronParameters(inputs[2])
        spikes, v = run_neurons(inputs[0], inputs[1], parameters, settings=settings, executor=executor)
        (spikes.float() * weight).sum().add(v.sum()).backward()
        found.append((spikes, v, *(x.grad for x in inputs)))
    assert found[0][0].count_nonzero() > 0
    assert torch.equal(found[0][0], found[1][0])
    rtol = 2e-2 if dtype == torch.bfloat16 else 1e-4
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)
