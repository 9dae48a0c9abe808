"""Golden vectors of the membrane's levels on their own: values exact, gradient 1e-4 of the largest."""

import numpy as np
import torch
from golden.vector import Mismatch, Vector

from snn.neurons.membrane import MEMBRANES, quantise_membrane

# Name of the file after `qmem_`, to the settings that reproduce it.
FILES = {
    "ternary": "ternary",
    "ternary_twosided": "ternary",
    "levels5": "five",
    "nearest4_sweep": "four",
    "floor23_sweep": "floor23",
}


def check_levels(vector: Vector) -> None:
    """Levels of a sweep over r with the gradient past them."""
    name = vector.name.removeprefix("qmem_")
    if name not in FILES:
        raise Mismatch(f"found levels named {name!r}, expected one of {', '.join(FILES)}")
    settings = MEMBRANES[FILES[name]]
    vector.equal("levels", np.float32(settings.levels))
    if "interval" in vector:
        vector.equal("interval", np.float32(np.diff(settings.levels)[:1]).reshape(vector["interval"].shape))
    r = torch.from_numpy(vector["x"]).requires_grad_()
    v = quantise_membrane(r, settings)
    (grad,) = torch.autograd.grad(v, r, torch.from_numpy(vector["grad_out"]))
    vector.equal("y", v.detach().numpy())
    vector.close_to_largest("grad_x", grad.numpy(), relative=1e-4)
