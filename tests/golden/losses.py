"""Golden vectors of losses: temporal efficient training; the detector's class loss is one step of it."""

import numpy as np
import torch
from golden.vector import Vector

from snn.losses import mean_threshold, tet_loss
from snn.neurons.modules import Neuron
from snn.neurons.settings import NeuronSettings


def check_tet(vector: Vector) -> None:
    """LT-SNN's files: loss 1e-5, gradient 1e-4 of the largest; with thresholds, their mean is the target."""
    if "thresholds" in vector:
        neurons = [Neuron(NeuronSettings(threshold=float(value))) for value in vector["thresholds"]]
        vector.close("means", np.asarray(mean_threshold(torch.nn.Sequential(*neurons))), rtol=1e-5)
    loss, grad = _run(vector["outputs"], vector["labels"], vector)
    vector.close("loss", loss, rtol=1e-5)
    vector.close_to_largest("grad_outputs", grad, relative=1e-4)


def check_tet_mlif(vector: Vector) -> None:
    """M-LIF's file: rtol 2e-4, atol 2e-5."""
    vector.ignore("seed")
    loss, grad = _run(vector["outputs"], vector["targets"], vector)
    vector.close("loss", loss, rtol=2e-4, atol=2e-5)
    vector.close("grad", grad, rtol=2e-4, atol=2e-5)


def check_class_loss(vector: Vector) -> None:
    """The detector's class loss: logits [N, K] are one step; loss 1e-5, gradient 1e-4 of the largest."""
    loss, grad = _run(vector["logits"][:, None], vector["labels"], vector)
    vector.close("loss", loss, rtol=1e-5)
    vector.close_to_largest("grad_logits", grad[:, 0], relative=1e-4)


def _run(outputs: np.ndarray, labels: np.ndarray, vector: Vector) -> tuple[np.ndarray, np.ndarray]:
    """Return the loss and its gradient, [B, T, K] as in the files."""
    logits = torch.from_numpy(outputs).transpose(0, 1).requires_grad_()
    loss = tet_loss(
        logits, torch.from_numpy(labels), weight=vector.scalar("lamb"), target=vector.scalar("means")
    )
    (grad,) = torch.autograd.grad(loss, logits)
    return loss.detach().numpy(), grad.transpose(0, 1).numpy()
