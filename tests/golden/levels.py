"""Golden vectors of M-LIF's activation quantiser: levels, measured ranges, straight-through gradient."""

import numpy as np
import torch
from golden.lanes import VALUES
from golden.vector import Vector

from snn.conversion.calibration import calibrate
from snn.quant.levels import LevelReLU, LevelSettings, to_levels


def check_levels(vector: Vector) -> None:
    """As released: values at their levels, the running range over three batches, the gradient."""
    vector.ignore("seed")
    settings = LevelSettings(
        kind=str(vector["quant_id"]), bits=int(vector.scalar("bits")), over="batches", published=True
    )
    minimum, maximum = torch.zeros(()), torch.tensor(vector.scalar("maximum"))
    x = torch.from_numpy(vector["x"])
    vector.close("y", to_levels(x, minimum, maximum, settings).numpy(), **VALUES)
    weights = torch.from_numpy(vector["ste_w"])
    x.requires_grad_()
    y = to_levels(torch.relu(x), minimum, maximum, settings)
    vector.close("ste_y", y.detach().numpy(), **VALUES)
    (y * weights).sum().backward()
    vector.close("ste_gx", x.grad.numpy(), **VALUES)
    batches = torch.from_numpy(vector["calib_x"])
    ranges = []
    for count in range(1, len(batches) + 1):
        layer = LevelReLU(settings)
        calibrate(layer, lambda count=count: batches[:count])
        ranges.append([float(layer.minimum), float(layer.maximum)])
    vector.equal("calib_minmax", np.array(ranges, np.float32))
