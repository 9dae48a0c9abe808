"""A layer of neurons as a module: it holds the parameters and nothing else."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from snn.errors import NeuronError
from snn.neurons.reference import NeuronParameters, run_neurons
from snn.neurons.settings import NeuronSettings


class Positive(nn.Module):
    """A number above 0: the softplus of a free parameter."""

    def forward(self, free: Tensor) -> Tensor:
        """Return log(1 + exp(free))."""
        return nn.functional.softplus(free)

    def right_inverse(self, value: Tensor) -> Tensor:
        """Return the free parameter that stands for `value`."""
        return value + torch.log(-torch.expm1(-value))


class Sigmoid(nn.Module):
    """A number between 0 and 1: the logistic function of a free parameter."""

    def forward(self, free: Tensor) -> Tensor:
        """Return 1 / (1 + exp(-free))."""
        return torch.sigmoid(free)

    def right_inverse(self, value: Tensor) -> Tensor:
        """Return the free parameter that stands for `value`."""
        return torch.logit(value)


CONSTRAINTS: dict[str, type[nn.Module]] = {"positive": Positive, "sigmoid": Sigmoid}


class Neuron(nn.Module):
    """A layer of neurons, run from rest over all steps of its input.

    Nothing is kept between calls. To continue where the last steps ended, pass the membrane on with `run`.

    Attributes:
        settings: The options of the recurrence.
        threshold: Tensor, a scalar or one number per channel [C]: a parameter where it is learned (with a
            constraint, computed from one), else a buffer.
        decay: The same where it is learned; None where it is the constant of the settings.
        spike_scale: Scalar parameter beside a learned threshold, 1 and frozen unless `spike_value` is
            `learned`. LT-SNN's release has it in every such neuron; kept so that parameter counts agree.
    """

    threshold: Tensor
    decay: Tensor | None
    spike_scale: Tensor | None

    def __init__(self, settings: NeuronSettings | None = None, *, channels: int | None = None) -> None:
        super().__init__()
        self.settings = s = settings if settings is not None else NeuronSettings()
        if s.per_channel and channels is None:
            raise NeuronError("channels: found None, expected the number of channels with per_channel")
        shape = (channels,) if s.per_channel and channels is not None else ()
        threshold = torch.full(shape, float(s.threshold))
        self.spike_scale = self.decay = None
        if s.learn_threshold:
            learns_scale = s.spike_value == "learned"
            self.threshold = nn.Parameter(threshold)
            self.spike_scale = nn.Parameter(torch.tensor(1.0), requires_grad=learns_scale)
            self._constrain("threshold", s.threshold_constraint)
        else:
            self.register_buffer("threshold", torch.tensor(float(s.threshold)))
        if s.learn_decay:
            self.decay = nn.Parameter(torch.full(shape, float(s.decay)))
            self._constrain("decay", s.decay_constraint)

    def _constrain(self, name: str, constraint: str) -> None:
        if constraint != "none":
            parametrize.register_parametrization(self, name, CONSTRAINTS[constraint]())

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes, shape [T, B, ...], for a current of that shape, starting at rest."""
        return self.run(current)[0]

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
        return run_neurons(current, v, parameters, settings=self.settings, mask=mask)

    def extra_repr(self) -> str:
        """Return what tells this neuron from others, in one line."""
        s = self.settings
        return ", ".join([*_values(self), f"fires at {s.fire_rule}", *_reset(s), *_surrogate(s)])


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
