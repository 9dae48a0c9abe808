"""What happens to frames before the first layer: scaling, and one frame at every step (direct coding)."""

from typing import Literal, get_args

from torch import Tensor

from snn.errors import ModelError

InputScale = Literal["none", "unit", "cifar10", "cifar100", "imagenet"]
INPUT_SCALES: tuple[str, ...] = get_args(InputScale)

# Mean and standard deviation of red, green and blue over the training pictures, in units of 255: those of
# LT-SNN's and SpQuant-SNN's released data loaders, and for ImageNet of torchvision's reference training.
CHANNELS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def check_scale(name: str, planes: int) -> None:
    """Raise ModelError where a scale is not that of frames with so many planes."""
    if name in CHANNELS and planes != len(CHANNELS[name][0]):
        raise ModelError(
            f"input_scale: found {name!r}, which is for 3 planes, and frames of {planes}; "
            "use 'unit' or 'none'"
        )


def scale_frames(x: Tensor, name: str) -> Tensor:
    """Return frames x [T, B, P, H, W] scaled: not at all, from 255 to 1, or by each plane's statistics."""
    if name == "none":
        return x
    if name == "unit":
        return x / 255
    mean, deviation = (x.new_tensor(values)[:, None, None] * 255 for values in CHANNELS[name])
    return (x - mean) / deviation


def repeat_frame(x: Tensor, steps: int | None) -> Tensor:
    """Return a frame x [1, B, P, H, W] at every one of so many steps, without copies; None leaves x as it is.

    A first convolution knows frames that are one memory, and is computed once; see `snn.layers.convolve`.

    Raises:
        ModelError: There is more than one step already.
    """
    if steps is None:
        return x
    if x.shape[0] != 1:
        raise ModelError(
            f"steps: found {steps}, which repeats frames of one step, and frames of {x.shape[0]} steps; "
            "leave steps out (none) for recordings"
        )
    return x.expand(steps, *x.shape[1:])
