"""The optimizer and its learning rate, a function of the step number alone."""

import math
from typing import Any

import torch
from torch import nn

from snn.neurons.modules import Neuron
from snn.training.lamb import Lamb
from snn.training.settings import TrainSettings

# Key of the group of parameters that has a learning rate of its own.
OF_THRESHOLDS = "of_thresholds"


def build_optimizer(model: nn.Module, settings: TrainSettings, *, fused: bool) -> torch.optim.Optimizer:
    """Return Adam, AdamW, AMSGrad, LAMB or SGD over all parameters that learn.

    Weights of convolutions and linear layers (two axes and more) decay; thresholds, biases and norms do
    not: drawing a threshold to 0 would make every neuron fire.
    """
    own = _own_rate(model, settings)
    kept = {id(parameter) for parameter in own}
    learned = [p for p in model.parameters() if p.requires_grad and id(p) not in kept]
    groups = [
        {"params": [p for p in learned if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in learned if p.dim() < 2], "weight_decay": 0.0},
        {"params": own, "weight_decay": 0.0, OF_THRESHOLDS: True},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, fused=fused)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=fused)
    if settings.optimizer == "lamb":
        return Lamb(groups, lr=settings.learning_rate)
    is_amsgrad = settings.optimizer == "amsgrad"
    return torch.optim.Adam(groups, lr=settings.learning_rate, amsgrad=is_amsgrad, fused=fused)


def _own_rate(model: nn.Module, settings: TrainSettings) -> list[nn.Parameter]:
    """Return the thresholds that have a learning rate of their own."""
    if settings.threshold_learning_rate is None:
        return []
    of_neurons = (m for m in model.modules() if isinstance(m, Neuron))
    named = (pair for neuron in of_neurons for pair in neuron.named_parameters(recurse=False))
    return [p for name, p in named if name in ("threshold", "free_threshold") and p.requires_grad]


def set_learning_rates(optimizer: Any, step: int, *, steps_per_epoch: int, settings: TrainSettings) -> None:
    """Set the learning rate of every group of parameters for a step."""
    rate = learning_rate_at(step, steps_per_epoch=steps_per_epoch, settings=settings)
    for group in optimizer.param_groups:
        group["lr"] = rate
        if group.get(OF_THRESHOLDS):
            highest = settings.threshold_learning_rate or settings.learning_rate
            same = settings.threshold_schedule == "same"
            group["lr"] = highest * (rate / settings.learning_rate if same else 1.0)


@torch.no_grad()
def keep_bounds(model: nn.Module, settings: TrainSettings) -> None:
    """Bring learned thresholds and decays back within their bounds, as after every step.

    Source of the decay's: M-LIF's released training of converted networks keeps leaks at most 1; that they
    and thresholds have a least value is ours.
    """
    if settings.threshold_floor is None and settings.decay_bounds is None:
        return
    for neuron in (module for module in model.modules() if isinstance(module, Neuron)):
        learned = dict(neuron.named_parameters(recurse=False))
        if settings.threshold_floor is not None and "threshold" in learned:
            learned["threshold"].clamp_(min=settings.threshold_floor)
        if settings.decay_bounds is not None and "decay" in learned:
            learned["decay"].clamp_(*settings.decay_bounds)


def learning_rate_at(step: int, *, steps_per_epoch: int, settings: TrainSettings) -> float:
    """Return the learning rate of a step.

    Over the warm-up it rises from `warmup_from` as (step + 1) / warm-up steps; then the cosine of
    Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5, without restarts; or steps down, counted in
    epochs since the beginning.

    Args:
        step: Number of the step since the beginning of training, from 0.
        steps_per_epoch: Steps an epoch.
        settings: Highest and final learning rate, schedule, warm-up.
    """
    highest, final = settings.learning_rate, settings.final_learning_rate
    warmup_steps = round(settings.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        lowest = settings.warmup_from
        return lowest + (highest - lowest) * (step + 1) / warmup_steps
    if settings.schedule == "constant":
        return highest
    if settings.schedule == "step":
        return highest * settings.step_factor ** (step // steps_per_epoch // settings.step_epochs)
    if settings.schedule == "milestones":
        begun = step // steps_per_epoch
        passed = sum(begun >= int(share * settings.epochs) for share in settings.milestones)
        return highest * settings.step_factor**passed
    total = max(settings.epochs * steps_per_epoch - warmup_steps, 1)
    share = min((step - warmup_steps) / total, 1.0)
    return final + (highest - final) * (1 + math.cos(math.pi * share)) / 2
