"""A layer of neurons as a module: it holds the parameters and nothing else."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

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
    """Neurons that share one threshold, run from rest over all steps of their input.

    Nothing is kept between calls. To continue where the last steps ended, pass the membrane on with `run`.

    Attributes:
        settings: The options of the recurrence.
        threshold: Scalar tensor: a parameter for kind `lt` (with a constraint, computed from one), a
            buffer for kind `lif`.
        spike_scale: Scalar parameter of kind `lt`, 1 and frozen unless `spike_value` is `learned`. The
            release has it in every such neuron; it is kept so that parameter counts agree.
    """

    threshold: Tensor
    spike_scale: Tensor | None

    def __init__(self, settings: NeuronSettings | None = None) -> None:
        super().__init__()
        self.settings = settings if settings is not None else NeuronSettings()
        initial = torch.tensor(float(self.settings.threshold))
        if self.settings.kind == "lif":
            self.register_buffer("threshold", initial)
            self.spike_scale = None
            return
        self.threshold = nn.Parameter(initial)
        learns_scale = self.settings.spike_value == "learned"
        self.spike_scale = nn.Parameter(torch.tensor(1.0), requires_grad=learns_scale)
        if self.settings.threshold_constraint != "none":
            constraint = CONSTRAINTS[self.settings.threshold_constraint]()
            parametrize.register_parametrization(self, "threshold", constraint)

    def forward(self, current: Tensor) -> Tensor:
        """Return the spikes, shape [T, B, ...], for a current of that shape, starting at rest."""
        return self.run(current)[0]

    def run(self, current: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return spikes [T, B, ...] and final membrane [B, ...], starting from the membrane `v` [B, ...]."""
        parameters = NeuronParameters(self.threshold, self.spike_scale)
        return run_neurons(current, v, parameters, settings=self.settings)

    def extra_repr(self) -> str:
        """Return what tells this neuron from others, in one line."""
        s = self.settings
        threshold = float(self.threshold.detach())
        learned = "learned " if s.kind == "lt" else ""
        parts = [
            s.kind,
            f"{learned}threshold={threshold:.4g}",
            f"decay={s.decay:g}",
            f"fires at {s.fire_rule}",
        ]
        parts += [f"{s.reset} reset{', detached' if s.detach_reset else ''}", f"surrogate={s.surrogate}"]
        if s.kind == "lt":
            parts.append(f"threshold_gradient={s.threshold_gradient}")
        return ", ".join(parts)
