"""The optimizer and its learning rate, a function of the step number alone."""

import math

import torch
from torch import nn

from snn.training.settings import TrainSettings


def build_optimizer(model: nn.Module, settings: TrainSettings, *, fused: bool) -> torch.optim.Optimizer:
    """Return Adam, AdamW or SGD over all parameters that learn.

    Weights of convolutions and linear layers (two axes and more) decay; thresholds, biases and norms do
    not: drawing a threshold to 0 would make every neuron fire.
    """
    learned = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learned if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in learned if p.dim() < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, fused=fused)
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
    return kinds[settings.optimizer](groups, lr=settings.learning_rate, fused=fused)


def learning_rate_at(step: int, *, steps_per_epoch: int, settings: TrainSettings) -> float:
    """Return the learning rate of a step.

    Over the warm-up it rises as (step + 1) / warm-up steps; then the cosine of Loshchilov and Hutter,
    "SGDR", ICLR 2017, eq. 5, without restarts; or steps down, counted in epochs since the beginning.

    Args:
        step: Number of the step since the beginning of training, from 0.
        steps_per_epoch: Steps an epoch.
        settings: Highest and final learning rate, schedule, warm-up.
    """
    highest, final = settings.learning_rate, settings.final_learning_rate
    warmup_steps = round(settings.warmup_epochs * steps_per_epoch)
    if step < warmup_steps:
        return highest * (step + 1) / warmup_steps
    if settings.schedule == "constant":
        return highest
    if settings.schedule == "step":
        return highest * settings.step_factor ** (step // steps_per_epoch // settings.step_epochs)
    total = max(settings.epochs * steps_per_epoch - warmup_steps, 1)
    share = min((step - warmup_steps) / total, 1.0)
    return final + (highest - final) * (1 + math.cos(math.pi * share)) / 2
