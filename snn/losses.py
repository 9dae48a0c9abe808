"""Losses of spiking classifiers."""

import torch
from torch import Tensor, nn

from snn.errors import SnnError
from snn.neurons.modules import Neuron


def tet_loss(logits: Tensor, labels: Tensor, *, weight: float, target: float | Tensor) -> Tensor:
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

    Raises:
        SnnError: Shapes that do not fit, or a weight outside 0 to 1.
    """
    if logits.dim() != 3 or labels.shape != logits.shape[1:2]:
        raise SnnError(
            f"logits and labels: found shapes {tuple(logits.shape)} and {tuple(labels.shape)}, "
            "expected [T, B, K] and [B]"
        )
    if not 0 <= weight <= 1:
        raise SnnError(f"weight: found {weight}, expected a number from 0 to 1")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    # Every step has the same B, so the mean over steps of batch means is the mean over all T * B rows.
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)))
    if weight == 0:
        return loss
    return (1 - weight) * loss + weight * (logits - target).square().mean()


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
