"""Golden vectors of masks and gates: decisions exact, values 1e-5 relative, gradients 1e-4 of the largest.

Operation counts are compared with the release's own rule, written out here: what is wrong with it (the
height in place of places, the batch counted in) is of no use anywhere else.
"""

import math

import numpy as np
import torch
from golden.vector import Mismatch, Vector
from torch import Tensor, nn
from torch.nn import functional

from snn.sparsity import reference
from snn.sparsity.targets import channel_scores, largest_after_norm, prune_fraction, shares, top_mass


def check_target(vector: Vector) -> None:
    """Masks of both rules at every stored ratio; batch and time are merged."""
    activation = torch.from_numpy(vector["acts"]).flatten(0, -4)
    scores = channel_scores(activation)
    for number, ratio in enumerate(vector["ratios"]):
        if vector.name == "mask_topmass":
            keep = top_mass(scores, float(ratio), published=True)
        elif vector.name == "mask_prune_fraction":
            keep = prune_fraction(scores, float(ratio))
        else:
            raise Mismatch(f"found target {vector.name!r}, expected mask_topmass or mask_prune_fraction")
        vector.equal(f"mask_{number}", keep[..., None, None].numpy())


def check_binarise(vector: Vector) -> None:
    """A step with the gradient passed through."""
    x = torch.from_numpy(vector["x"]).requires_grad_()
    y = reference.binarise(x, vector.scalar("threshold"))
    (grad,) = torch.autograd.grad(y, x, torch.from_numpy(vector["grad_out"]))
    vector.equal("y", y.detach().numpy())
    vector.close_to_largest("grad_x", grad.numpy(), relative=1e-4)


def check_channel(vector: Vector) -> None:
    """Logits, mask and target of the published channel predictor, and what the release counts."""
    x = torch.from_numpy(vector["x"])
    B, T, C, H, W = x.shape
    frames = x.flatten(0, 1)
    conv_weight = torch.from_numpy(vector["conv_weight"])
    K, kernel = len(conv_weight), conv_weight.shape[-1]
    weight, bias = (torch.from_numpy(vector[f"pred_{name}"]) for name in ("weight", "bias"))
    logits = reference.predictor_logits(reference.published_features(frames), weight.flatten(1), bias)
    mask = (torch.sigmoid(logits) > 0.5).float()
    vector.close("logits", logits.reshape(B, T, K, 1, 1).numpy(), rtol=1e-5, atol=1e-6)
    vector.equal("mask", mask.reshape(B, T, K, 1, 1).numpy())
    norm = _norm(nn.BatchNorm2d(K, eps=vector.scalar("bn_eps")), vector)
    y = functional.conv2d(frames, conv_weight, torch.from_numpy(vector["conv_bias"]), padding=kernel // 2)
    ratio = vector.scalar("ratio")
    for scores in (channel_scores(torch.relu(norm(y))), shares(largest_after_norm(y, norm))):
        vector.equal("target_mask", top_mass(scores, ratio, published=True)[..., None, None].numpy())
    # Sum over steps of the share of active channels; B * sum * (K * H) * C * k^2, the same for every step.
    active = mask.reshape(B, T, K).mean(dim=2).sum(dim=1, keepdim=True)
    vector.close("active", active.numpy(), rtol=1e-5)
    dense = B * K * H * C * kernel**2
    vector.close("flops", np.broadcast_to((dense * active).numpy(), vector["flops"].shape), rtol=1e-5)
    vector.close("flops_dense", np.full(vector["flops_dense"].shape, T * dense), rtol=1e-5)
    seen = (C, H, W) if C <= reference.PREDICTOR_WHOLE else (C // 4, H // 4, W // 4)
    vector.equal("mask_flops", np.float64(2 * K * math.prod(seen)))


def check_spatial(vector: Vector) -> None:
    """Logits and mask of the spatial gate in evaluation, places kept by any channel, operations."""
    x, weight = torch.from_numpy(vector["x"]), torch.from_numpy(vector["weight"])
    rows, columns = (int(n) for n in vector["block"])
    if rows != columns:
        raise Mismatch(f"block: found {rows}x{columns}, expected a square")
    C, H, W = x.shape[1:]
    patches = (-(-H // rows), -(-W // columns))
    logits = reference.patch_logits(x, weight, None, patches=patches)
    gates = reference.certain_gate(logits, temperature=vector.scalar("eps"))
    vector.close("logits", logits.numpy(), rtol=1e-5, atol=1e-6)
    mask = reference.spread(gates, patch=rows, output_hw=(H, W), published=True)
    vector.equal("mask", mask.numpy())
    vector.equal("norm", gates.sum(dim=(1, 2, 3)).numpy())
    vector.equal("norm_total", np.float32([math.prod(patches)]))
    vector.equal("flops", np.int64(9 * C * math.prod(patches)))


def check_squeeze(vector: Vector) -> None:
    """Logits and mask of the squeeze gate in evaluation, channels kept, operations."""
    x = torch.from_numpy(vector["x"])
    first, second = (torch.from_numpy(vector[name]).flatten(1) for name in ("w1", "w2"))
    norm = _norm(nn.BatchNorm1d(len(first), eps=vector.scalar("bn_eps")), vector)
    logits = reference.squeeze_logits(x, first, norm, second).detach()
    gates = reference.certain_gate(logits, temperature=2 / 3)
    vector.close("logits", logits[..., None, None].numpy(), rtol=1e-5, atol=1e-6)
    vector.equal("mask", gates[..., None, None].numpy())
    vector.equal("norm", gates.sum(dim=1).numpy())
    vector.equal("norm_total", np.float32([len(second)]))
    vector.equal("flops", np.int64(first.numel() + second.numel()))


def check_gumbel(vector: Vector) -> None:
    """Drawn gates with stored noise, and the gradient of their soft form."""
    logits = torch.from_numpy(vector["logits"]).requires_grad_()
    uniform = torch.from_numpy(vector["uniform"])
    y = reference.gumbel_gate(logits, temperature=vector.scalar("eps"), uniform=uniform)
    (grad,) = torch.autograd.grad(y, logits, torch.from_numpy(vector["grad_out"]))
    vector.equal("y", y.detach().numpy())
    vector.close_to_largest("grad_logits", grad.numpy(), relative=1e-4)


def check_partial_sum(vector: Vector) -> None:
    """A convolution completed where its partial sum is large, with every gradient."""
    x, weight = (torch.from_numpy(vector[name]).requires_grad_() for name in ("x", "weight"))
    threshold = torch.from_numpy(vector["threshold"]).flatten().requires_grad_()
    part = torch.from_numpy(vector["partial_mask"])
    if float(part[0, :, 0, 0].sum()) * vector.scalar("p") != part.shape[1]:
        raise Mismatch("partial_mask: expected one channel in p")
    partial = functional.conv2d(x, weight * part, padding=1)
    gates = reference.partial_sum_gates(
        functional.batch_norm(partial, None, None, training=True),
        threshold,
        steepness=vector.scalar("alpha"),
        gradient="positive" if "group" in vector.name else "identity",
    )
    y = gates * functional.conv2d(x, weight, padding=1) + (1 - gates) * partial
    vector.equal("gate", gates.detach().numpy())
    vector.equal("num_out", np.int64(gates.numel()))
    vector.equal("num_full", np.int64(gates.sum().item()))
    vector.close("y", y.detach().numpy(), rtol=1e-5, atol=1e-6)
    grads = torch.autograd.grad(y, (x, threshold, weight), torch.from_numpy(vector["grad_out"]))
    for name, grad in zip(("x", "threshold", "weight"), grads, strict=True):
        found = grad.reshape(1, -1, 1, 1) if name == "threshold" else grad
        vector.close_to_largest(f"grad_{name}", found.numpy(), relative=1e-4)


def _norm(norm: nn.Module, vector: Vector) -> nn.Module:
    """Return a normalisation in evaluation with the stored statistics; its factors stay 1 and 0."""
    statistics: dict[str, Tensor] = {
        f"running_{name}": torch.from_numpy(vector[f"bn_{name}"]) for name in ("mean", "var")
    }
    norm.load_state_dict(statistics, strict=False)
    return norm.eval()
