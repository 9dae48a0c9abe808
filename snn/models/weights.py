"""Load a network's weights, all of them or none, and say what does not fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from snn.errors import ModelError

# Weights in few bits are kept under this name by torch.
FEW_BITS = ".parametrizations."
MOST_NAMES = 3


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, where: str | Path) -> None:
    """Put weights into a network, strictly: every name on both sides, every shape the same.

    Args:
        network: Left as it is where anything does not fit.
        weights: What `network.state_dict()` was when they were saved.
        where: Where they come from, for messages.

    Raises:
        ModelError: They are of another network; names what is missing, unexpected or of another shape.
    """
    known = network.state_dict()
    missing = [name for name in known if name not in weights]
    unexpected = [name for name in weights if name not in known]
    reshaped = [
        f"{name} {list(weights[name].shape)} for {list(value.shape)}"
        for name, value in known.items()
        if name in weights and weights[name].shape != value.shape
    ]
    if not (missing or unexpected or reshaped):
        network.load_state_dict(dict(weights))
        return
    parts = [
        f"{len(names)} of {total} weights {what} ({_some(names)})"
        for names, total, what in (
            (missing, len(known), "missing"),
            (unexpected, len(weights), "unexpected"),
            (reshaped, len(known), "of another shape"),
        )
        if names
    ]
    raise ModelError(f"{where}: of another network: {', '.join(parts)}; {_advice(missing, unexpected)}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _advice(missing: list[str], unexpected: list[str]) -> str:
    if not missing and not unexpected:
        return "use frames, classes and model.width that it was trained with, as in settings.toml of its run"
    for names, found, expected in ((missing, "float", "few bits"), (unexpected, "few bits", "float")):
        if any(FEW_BITS in name for name in names):
            return f"its weights are {found} where this network has {expected}; set model.weights as it had"
    return "set model.name and the other settings of the model as in settings.toml of its run"
