"""Layers whose weights stayed float, as the first and the last one usually do, in few bits for the export."""

import copy

from torch import nn
from torch.nn.utils import parametrize

from snn.layers import weight_layers
from snn.quant.apply import quantiser_of
from snn.quant.settings import WeightSettings
from snn.quant.weights import make_quantiser


def quantise_rest(model: nn.Module, bits: int) -> tuple[nn.Module, list[str]]:
    """Return a copy of a network without float weights, and the names of the layers that had them.

    They were not trained so, and the network may classify otherwise. The rule is the clip of least squared
    error, one for each layer.

    Args:
        model: A network; left as it is.
        bits: Of the layers that are float: 2, 3, 4 or 8.

    Raises:
        QuantError: There are no weights of so many bits.
    """
    rule = WeightSettings(bits=bits, rule="learned_clip").for_role("inner")
    changed, names = copy.deepcopy(model), []
    for name, module, _ in weight_layers(changed):
        if rule is None or quantiser_of(module) is not None:
            continue
        quantiser = make_quantiser(rule, layer=name)
        quantiser.start_from(module.weight)
        parametrize.register_parametrization(module, "weight", quantiser, unsafe=True)
        names.append(name)
    return changed, names
