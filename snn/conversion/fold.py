"""Put an ANN's weights into the spiking network it becomes, its normalisations inside the convolutions."""

from pathlib import Path

from torch import Tensor, nn

from snn.layers import fold_batch_norm
from snn.models.weights import load_weights
from snn.neurons.modules import Neuron


def folded_weights(ann: nn.Module) -> dict[str, Tensor]:
    """Return the weights and biases of an ANN with its normalisations folded, by name; the ANN stays."""
    return dict(fold_batch_norm(ann).state_dict())


def take_weights(snn: nn.Module, folded: dict[str, Tensor], *, where: str | Path) -> None:
    """Put folded weights into a spiking network, whose neurons stay as they are.

    Args:
        snn: Left as it is where anything does not fit.
        folded: What `folded_weights` gave.
        where: Where they come from, for messages.

    Raises:
        ModelError: They are of another network.
    """
    own = {
        f"{name}.{key}": value
        for name, module in snn.named_modules()
        if isinstance(module, Neuron)
        for key, value in module.state_dict().items()
    }
    load_weights(snn, {**folded, **own}, where=where)
