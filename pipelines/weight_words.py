"""A network's weights in words: how many bits each layer's have, and what stays in float."""

from collections.abc import Sequence

from snn.quant.apply import LayerWeights
from snn.quant.settings import FLOAT_BITS

# More layers of a role than this are counted, not named.
MOST_NAMES = 4


def name_weights(layers: Sequence[LayerWeights]) -> str:
    """Return bits, rule and layers, as in `2 bits (sawb, 3 levels) 12 inner layers; float conv1 (first)`."""
    groups: dict[str, list[LayerWeights]] = {}
    for layer in layers:
        few = layer.bits != FLOAT_BITS
        label = f"{layer.bits} bits ({layer.rule}, {layer.levels} levels)" if few else "float"
        groups.setdefault(label, []).append(layer)
    if list(groups) == ["float"]:
        return "float"
    # Float last: it is what is left.
    order = sorted(groups, key=lambda label: label == "float")
    return "; ".join(f"{label} {_name_layers(groups[label])}" for label in order)


def _name_layers(layers: Sequence[LayerWeights]) -> str:
    roles: dict[str, list[str]] = {}
    for layer in layers:
        roles.setdefault(layer.role, []).append(layer.name)
    words = []
    for role, names in roles.items():
        end = "" if role == "inner" else f" ({role})"
        named = [f"{name}{end}" for name in names]
        words += named if len(names) <= MOST_NAMES else [f"{len(names)} {role} layers"]
    return ", ".join(words)
