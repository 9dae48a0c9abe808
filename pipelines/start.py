"""Begin training with the weights of another run."""

from pathlib import Path

from torch import nn

from pipelines.errors import RunError
from snn.models.weights import load_weights
from snn.quant.apply import from_float
from snn.quant.levels import from_unmeasured
from snn.sparsity.apply import from_ungated
from snn.training.checkpoint import load_checkpoint
from snn.training.fit import BEST


def start_checkpoint(source: str) -> Path:
    """Return the checkpoint to begin with: a file, or the best epoch of a run folder.

    Raises:
        RunError: There is none.
    """
    path = Path(source)
    if path.is_dir():
        path = path / "checkpoints" / BEST
    if not path.is_file():
        raise RunError(
            f"{path}: no checkpoint to begin with; training.start_from (--from) takes a run folder whose run "
            "has finished an epoch, or a checkpoint"
        )
    return path


def start_from(network: nn.Module, source: str) -> None:
    """Put the weights of a run's best epoch, or of a checkpoint, into a network.

    A network whose weights have few bits may begin with one in float, one with gates with one without, and
    an ANN whose activations have few levels with one whose have not, otherwise the same.

    Raises:
        RunError: There is no checkpoint.
        ModelError: It is of another network.
    """
    path = start_checkpoint(source)
    weights = from_ungated(load_checkpoint(path)["model"], network)
    load_weights(network, from_unmeasured(from_float(weights, network), network), where=path)
