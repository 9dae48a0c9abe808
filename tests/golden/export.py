"""Golden vector of the chip export: a normalisation folded behind a convolution of codes, in fixed point.

Codes exact, values 1e-5 relative. The release folds with the scale left over from training, while its codes
come from the scale of evaluation; both are reproduced, and that only the latter gives what evaluation gives.
"""

import numpy as np
import torch
from golden.vector import Mismatch, Vector

from snn.export.fixed_point import PUBLISHED, fold_norm, map_bits, to_fixed
from snn.export.integer_ops import convolve
from snn.quant import reference


def check_fuse_fixedpoint(vector: Vector) -> None:
    """Codes, folded scale and bias, fixed point, and what comes out with each."""
    weight, x = torch.from_numpy(vector["weight"]), vector["x"].astype(np.int64)
    one_shot = reference.sawb(weight, bits=4)
    # The release's second training call: it clips to what the first one left.
    _, alpha = reference.stateful_step(weight, torch.tensor(1.0), bits=4, rule="sawb")
    trained, alpha = reference.stateful_step(weight, alpha, bits=4, rule="sawb")
    vector.close("alpha_train", alpha.numpy(), rtol=1e-5)
    vector.close("wscale_train", (1 / trained.scale).numpy(), rtol=1e-5)
    vector.close("alpha_eval", np.float32(one_shot.limit), rtol=1e-5)
    vector.close("wscale_eval", (1 / one_shot.scale).numpy(), rtol=1e-5)
    codes = one_shot.codes.numpy().astype(np.int64)
    vector.equal("weight_int", codes)
    sums = convolve(x, codes, stride=(1, 1), padding=(1, 1), groups=1)
    vector.equal("conv_int", sums)
    vector.equal("fm_max_bits", np.float32(map_bits(sums)))
    _check_folded(vector, sums, trained.scale.numpy(), "")
    _check_folded(vector, sums, one_shot.scale.numpy(), "_consistent")
    _check_normalised(vector, x, trained, "bn_out_reference")
    _check_normalised(vector, x, one_shot, "bn_out_eval")
    _check_fixed(vector, sums)


def _fold(vector: Vector, weight_scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return fold_norm(
        weight_scale,
        vector["conv_bias"],
        weight=vector["bn_weight"],
        bias=vector["bn_bias"],
        mean=vector["bn_mean"],
        variance=vector["bn_var"],
        eps=vector.scalar("bn_eps"),
    )


def _check_folded(vector: Vector, sums: np.ndarray, weight_scale: np.ndarray, end: str) -> None:
    scale, bias = _fold(vector, weight_scale)
    vector.close(f"fused_scale{end}", scale, rtol=1e-5)
    vector.close(f"fused_bias{end}", bias, rtol=1e-5)
    out = sums * scale[:, None, None] + bias[:, None, None]
    vector.close(f"fused_out{end}", out, rtol=1e-5)
    apart = np.abs(out - vector["bn_out_eval"]).max()
    if end == "_consistent" and not apart < 1e-5 * np.abs(out).max():
        raise Mismatch(f"fused_out{end}: found {apart:.3g} from what evaluation gives, expected as good as 0")


def _check_normalised(vector: Vector, x: np.ndarray, weight: reference.Quantised, key: str) -> None:
    """Compare convolution and normalisation as a network computes them, not folded."""
    names = ("bn_mean", "bn_var", "bn_weight", "bn_bias")
    norm = [torch.from_numpy(vector[name]) for name in names]
    bias = torch.from_numpy(vector["conv_bias"])
    y = torch.nn.functional.conv2d(torch.from_numpy(x).float(), weight.values, bias, padding=1)
    out = torch.nn.functional.batch_norm(y, *norm, eps=vector.scalar("bn_eps"))
    vector.close(key, out.numpy(), rtol=1e-5)


def _check_fixed(vector: Vector, sums: np.ndarray) -> None:
    scale, bias = (to_fixed(vector[key], PUBLISHED).codes for key in ("fused_scale", "fused_bias"))
    vector.equal("scale_fixed", scale)
    vector.equal("bias_fixed", bias)
    out = sums * scale[:, None, None] + bias[:, None, None]
    vector.equal("fixed_out", out.astype(np.float32) / 2.0**13)
    vector.equal("probe_fixed", to_fixed(vector["probe"], PUBLISHED).codes)
