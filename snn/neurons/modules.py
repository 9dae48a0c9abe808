"""A layer of neurons as a module: it holds the parameters and nothing else."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from snn.errors import NeuronError, did_you_mean
from snn.neurons.executors import check_executor, run_neurons
from snn.neurons.memory import Memory
from snn.neurons.reference import NeuronParameters
from snn.neurons.settings import NEURONS, NeuronSettings


class Constraint(NamedTuple):
    """A way to keep a number within bounds.

    Attributes:
        constrain: From a free parameter to the number.
        free: From the number to the free parameter.
    """

    constrain: Callable[[Tensor], Tensor]
    free: Callable[[Tensor], Tensor]


CONSTRAINTS: dict[str, Constraint] = {
    # log(1 + exp(free)), above 0.
    "positive": Constraint(nn.functional.softplus, lambda value: value + torch.log(-torch.expm1(-value))),
    # Between 0 and 1.
    "sigmoid": Constraint(torch.sigmoid, torch.logit),
}


class Neuron(nn.Module):
    """A layer of neurons, run from rest over all steps of its input.

    Nothing is kept between calls. To continue where the last steps ended, pass the membrane on with `run`.

    Attributes:
        settings: The options of the recurrence.
        executor: What runs it: `auto`, `reference`, `numba` or `cuda`, see `snn.neurons.executors`.
        threshold: Tensor, a scalar or one number per channel [C]: a parameter where it is learned, else a
            buffer. With a constraint it is computed from the parameter `free_threshold`. Frozen where no
            gradient reaches it, see `NeuronSettings.threshold_learns`.
        decay: The same where it is learned, with `free_decay`; None where it is the constant of the settings.
        spike_scale: Scalar parameter beside a learned threshold, 1 and frozen unless `spike_value` is
            `learned`. LT-SNN's release has it in every such neuron; kept so that parameter counts agree.
    """

    threshold: Tensor
    decay: Tensor | None
    spike_scale: Tensor | None

    def __init__(
        self,
        settings: NeuronSettings | None = None,
        *,
        channels: int | None = None,
        executor: str = "auto",
    ) -> None:
        super().__init__()
        check_executor(executor)
        self.executor = executor
        self.settings = s = settings if settings is not None else NeuronSettings()
        if s.per_channel and channels is None:
            raise NeuronError("channels: found None, expected the number of channels with per_channel")
        shape = (channels,) if s.per_channel and channels is not None else ()
        self.spike_scale = None
        if s.learn_threshold:
            learns_scale = s.spike_value == "learned"
            value = torch.full(shape, float(s.threshold))
            self._learn("threshold", value, s.threshold_constraint, has_gradient=s.threshold_learns)
            self.spike_scale = nn.Parameter(torch.tensor(1.0), requires_grad=learns_scale)
        else:
            self.register_buffer("threshold", torch.tensor(float(s.threshold)))
        if s.learn_decay:
            self._learn("decay", torch.full(shape, float(s.decay)), s.decay_constraint)
        else:
            self.decay = None

    def _learn(self, name: str, value: Tensor, constraint: str, *, has_gradient: bool = True) -> None:
        if constraint != "none":
            name, value = f"free_{name}", CONSTRAINTS[constraint].free(value)
        self.register_parameter(name, nn.Parameter(value, requires_grad=has_gradient))

    def __getattr__(self, name: str) -> Any:
        """Return a threshold or decay that is constrained; anything else as every module does."""
        if name in ("threshold", "decay"):
            free = self._parameters.get(f"free_{name}")
            if free is not None:
                return CONSTRAINTS[getattr(self.settings, f"{name}_constraint")].constrain(free)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a threshold or decay that is constrained by its free parameter; anything else as it is."""
        free = self.__dict__.get("_parameters", {}).get(f"free_{name}")
        if free is None:
            super().__setattr__(name, value)
            return
        with torch.no_grad():
            constraint = CONSTRAINTS[getattr(self.settings, f"{name}_constraint")]
            free.copy_(constraint.free(torch.as_tensor(value, dtype=free.dtype, device=free.device)))

    def forward(self, current: Tensor, memory: Memory | None = None) -> Tensor:
        """Return the spikes, shape [T, B, ...], for a current of that shape.

        Args:
            current: Shape [T, B, ...].
            memory: Has the membrane to start from and takes that after the last step; None starts at rest.
        """
        if memory is None:
            return self.run(current)[0]
        spikes, v = self.run(current, memory.before(self))
        memory.keep(self, v)
        return spikes

    def run(
        self, current: Tensor, v: Tensor | None = None, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return spikes [T, B, ...] and final membrane [B, ...].

        Args:
            current: Shape [T, B, ...].
            v: Membrane to start from, shape [B, ...]; None starts at rest.
            mask: Share of the current let through, shape [T, B, C]; None lets all of it through.
        """
        parameters = NeuronParameters(self.threshold, self.spike_scale, self.decay)
        return run_neurons(current, v, parameters, settings=self.settings, mask=mask, executor=self.executor)

    def extra_repr(self) -> str:
        """Return what tells this neuron from others, in one line."""
        s = self.settings
        executor = [f"executor={self.executor}"] if self.executor != "auto" else []
        return ", ".join([*_values(self), f"fires at {s.fire_rule}", *_reset(s), *_surrogate(s), *executor])


class _Preset(Neuron):
    """Neurons of a name; see the subclasses."""

    preset: ClassVar[str]

    def __init__(self, *, channels: int | None = None, executor: str = "auto", **options: Any) -> None:
        known = [field.name for field in fields(NeuronSettings)]
        for name in options:
            if name not in known:
                hint = did_you_mean(name, [*known, "channels", "executor"])
                raise NeuronError(
                    f"{type(self).__name__}: found option {name!r}, expected one of NeuronSettings{hint}"
                )
        settings = replace(NEURONS[self.preset], **options)
        super().__init__(settings, channels=channels, executor=executor)


class LIF(_Preset):
    """Leaky integrate-and-fire with a constant threshold.

    `LIF(**options)` takes the options of `NeuronSettings`, and `channels` and `executor` of `Neuron`; what is
    left out is as in `NEURONS["lif"]`. The classes below work alike.
    """

    preset = "lif"


class PLIF(_Preset):
    """LIF with a learned decay (Fang et al., ICCV 2021): `NEURONS["plif"]`, changed by options."""

    preset = "plif"


class LT(_Preset):
    """LIF with a learned threshold (LT-SNN, IJCNN 2024): `NEURONS["lt"]`, changed by options."""

    preset = "lt"


class QuantLIF(_Preset):
    """LIF with a membrane of few levels (SpQuant-SNN): `NEURONS["quantlif"]`, changed by options."""

    preset = "quantlif"


class MLIF(_Preset):
    """LIF with several levels of spikes (M-LIF, IEEE Access 2025): `NEURONS["mlif"]`, changed by options."""

    preset = "mlif"


def _values(neuron: Neuron) -> list[str]:
    s = neuron.settings
    learned = "learned " if s.learn_threshold else ""
    parts = [f"{learned}threshold={_number(neuron.threshold)}"]
    parts += [f"learned decay={_number(neuron.decay)}" if neuron.decay is not None else f"decay={s.decay:g}"]
    if s.charge != "decay":
        parts.append(f"charge={s.charge}")
    if s.lanes > 1:
        parts.append(
            f"lanes={s.lanes}{', scaled' if s.scaled else ''}{f', {s.firing}' * (s.firing != 'one_hot')}"
        )
    if s.membrane.levels:
        parts.append(f"membrane of {len(s.membrane.levels)} levels")
    return parts


def _number(tensor: Tensor) -> str:
    values = tensor.detach().flatten()
    mean = f"{float(values.mean()):.4g}"
    return mean if len(values) == 1 else f"{mean} (mean of {len(values)} channels)"


def _reset(s: NeuronSettings) -> list[str]:
    rest = f" to {s.rest:g}" if s.rest else ""
    return [f"{s.reset} reset{rest}{', detached' if s.detach_reset else ''}"]


def _surrogate(s: NeuronSettings) -> list[str]:
    parts = [f"surrogate={s.surrogate}"]
    if s.surrogate_width != "membrane":
        parts.append(f"as wide as {s.surrogate_width}")
    if s.lanes > 1 and s.upper_edge != "subtract":
        parts.append(f"upper_edge={s.upper_edge}")
    if s.learn_threshold:
        parts.append(f"threshold_gradient={s.threshold_gradient}")
    return parts
