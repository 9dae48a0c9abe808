"""Losses of spiking classifiers."""

from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from snn.errors import SnnError
from snn.neurons.modules import Neuron

LossOf = Literal["steps", "mean"]


class Mixed(NamedTuple):
    """The other class of samples that are made of two.

    Attributes:
        labels: Class numbers, int64, shape [B].
        own_share: Share of each sample that is of its own class, from 0 to 1, shape [B].
    """

    labels: Tensor
    own_share: Tensor


def tet_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    weight: float,
    target: float | Tensor,
    loss_of: LossOf = "steps",
    label_smoothing: float = 0.0,
    mixed: Mixed | None = None,
) -> Tensor:
    """Return the temporal efficient training loss: classify at every step, and stay near a target.

        (1 - weight) mean_t CE(logits[t], labels) + weight mean_{t,b,k} (logits - target)^2

    Source: Deng et al., "Temporal Efficient Training of Spiking Neural Network via Gradient
    Re-weighting", ICLR 2022; the average threshold as target: LT-SNN. The second term is left out where
    the weight is 0. Computed in float32 at least.

    Args:
        logits: Shape [T, B, K].
        labels: Class numbers, int64, shape [B].
        weight: Lambda, from 0 to 1.
        target: Value the logits are drawn to: 1.0, or `mean_threshold(model)`.
        loss_of: `steps`: as above. `mean`: the first term is CE(mean_t logits[t], labels).
        label_smoothing: Share of each label that is spread over all classes, from 0 to 1.
        mixed: Of samples that are made of two: CE is that with each of both labels, by their shares.

    Raises:
        SnnError: Shapes that do not fit, a weight outside 0 to 1, or another name of what the loss is of.
    """
    if logits.dim() != 3 or labels.shape != logits.shape[1:2]:
        raise SnnError(
            f"logits and labels: found shapes {tuple(logits.shape)} and {tuple(labels.shape)}, "
            "expected [T, B, K] and [B]"
        )
    if not 0 <= weight <= 1:
        raise SnnError(f"weight: found {weight}, expected a number from 0 to 1")
    if loss_of not in get_args(LossOf):
        raise SnnError(f"loss_of: found {loss_of!r}, expected one of {', '.join(get_args(LossOf))}")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    classified = logits if loss_of == "steps" else logits.mean(dim=0, keepdim=True)
    loss = _cross_entropy(classified, labels, label_smoothing, mixed)
    if weight == 0:
        return loss
    return (1 - weight) * loss + weight * (logits - target).square().mean()


def _cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float, mixed: Mixed | None) -> Tensor:
    """Return the mean cross entropy of logits [T, B, K]."""
    # Every step has the same B, so the mean over steps of batch means is the mean over all T * B rows.
    rows, steps = logits.flatten(0, 1), len(logits)
    if mixed is None:
        return nn.functional.cross_entropy(rows, labels.repeat(steps), label_smoothing=label_smoothing)
    own, other = (
        nn.functional.cross_entropy(
            rows, found.repeat(steps), label_smoothing=label_smoothing, reduction="none"
        )
        for found in (labels, mixed.labels)
    )
    share = mixed.own_share.to(rows.dtype).repeat(steps)
    return (share * own + (1 - share) * other).mean()


def mean_threshold(model: nn.Module) -> float | None:
    """Return the mean over layers of the learned thresholds of a model; None where it has none.

    A layer with a threshold for each channel counts once, by their mean, however many they are.

    LT-SNN takes it as the target of `tet_loss`: 1 at the start of every epoch, this value after each
    optimizer step. (The released code makes the target 0 for a model without thresholds, by accident.)
    """
    thresholds = [
        m.threshold.detach().float().mean()
        for m in model.modules()
        if isinstance(m, Neuron) and m.settings.learn_threshold
    ]
    if not thresholds:
        return None
    return float(torch.stack(thresholds).mean())
