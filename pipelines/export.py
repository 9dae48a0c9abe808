"""Export the best network of a run in whole numbers, and compare it with the network in torch."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from events.store.reader import FrameStore, open_store
from pipelines.errors import RunError
from pipelines.evaluate import load_best
from pipelines.experiment import Experiment
from pipelines.run_folder import RunFolder
from pipelines.samples import split_samples
from snn.export.compare import Difference, compare
from snn.export.fixed_point import FixedPoint
from snn.export.float_layers import quantise_rest
from snn.export.integers import ExportSettings, integer_network
from snn.export.network import IntegerNetwork, write_network
from snn.export.plan import Plan
from snn.export.power_of_two import rounded_network, rounded_plan
from snn.export.walk import plan_of

NETWORK = "network.npz"
# A suffix of the file that asks for NIR.
NIR = ".nir"
# Values of a batch of frames when networks are compared: what memory that takes.
BATCH_VALUES = 1 << 22


@dataclass(frozen=True)
class ExportChoice:
    """What is exported.

    Attributes:
        form: Of scales and biases.
        power_of_two: Whether scales are rounded to powers of two.
        float_bits: Bits of layers whose weights are float; None refuses them.
        check: Whether to compare it with the network in torch.
        samples: At most so many samples are compared; None takes all of the test split.
    """

    form: FixedPoint = field(default_factory=FixedPoint)
    power_of_two: bool = False
    float_bits: int | None = None
    check: bool = False
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.samples is not None and self.samples < 1:
            raise RunError(f"--samples: found {self.samples}, expected at least 1")


def export_run(run: Path, out: Path | None, choice: ExportChoice) -> dict[str, Any]:
    """Export the best network of a run and return what was done, as plain JSON types.

    Args:
        run: Run folder.
        out: File to write; None takes `network.npz` in the run folder. A name ending in `.nir` is NIR.
        choice: What is exported.

    Raises:
        RunError: The run or its store cannot be used.
        ExportError: The network cannot be exported; names the layer and says why.
    """
    folder = RunFolder(run)
    experiment = folder.experiment()
    store = open_store(folder.read_about()["store"])
    model, saved = load_best(folder, experiment, store)
    model = model.cpu().eval()
    path = out or folder.path / NETWORK
    said = {"run": str(run), "file": str(path), "epoch": saved["epoch"]}
    if path.suffix == NIR:
        return said | _export_nir(plan_of(model), path, choice)
    if choice.float_bits is not None:
        model, quantised = quantise_rest(model, choice.float_bits)
        said["quantised_here"] = quantised
    plan = plan_of(model)
    if choice.power_of_two:
        plan = rounded_plan(plan, choice.form)
        model = rounded_network(model, plan)
    network = _integers(plan, experiment, store, choice, epoch=saved["epoch"])
    write_network(network, path)
    said |= {"bytes": path.stat().st_size, "layers": network.description()["layers"]}
    if choice.check:
        said["check"] = check_network(model, network, experiment, store, samples=choice.samples).as_dict()
    return said


def _integers(
    plan: Plan,
    experiment: Experiment,
    store: FrameStore,
    choice: ExportChoice,
    *,
    epoch: int,
) -> IntegerNetwork:
    about = {
        "model": experiment.model.name,
        "class_names": list(store.class_names),
        "epoch": epoch,
        "power_of_two": choice.power_of_two,
    }
    settings = ExportSettings(
        form=choice.form,
        guard_bits=None if choice.power_of_two else 0,
        largest_count=_largest(store),
        steps=store.shape[1],
    )
    return integer_network(plan, settings, about=about)


def check_network(
    model: nn.Module,
    network: IntegerNetwork,
    experiment: Experiment,
    store: FrameStore,
    *,
    samples: int | None,
) -> Difference:
    """Compare an exported network with the one in torch on the test samples of a run.

    Args:
        model: Network in torch, on the CPU.
        network: What was exported from it.
        experiment: Of the run.
        store: Of the run.
        samples: At most so many, evenly spaced; None takes all.
    """
    share = experiment.data.validation_share
    indices = split_samples(store, validation_share=share, seed=experiment.seed).test
    if samples is not None:
        places = np.linspace(0, len(indices) - 1, min(samples, len(indices)))
        indices = indices[places.round().astype(int)]
    return compare(model, network, _batches(store, indices))


def _largest(store: FrameStore) -> int:
    """Return the largest number a place of a frame may have.

    Raises:
        RunError: Places hold fractions.
    """
    if store.values is None:
        return int(np.iinfo(store.dtype).max)
    if not (store.values % 1 == 0).all():
        raise RunError(
            f"{store.path}: resized lanes hold fractions, an exported network takes whole numbers; "
            "train on frames of resize 'direct'"
        )
    return int(store.values.max())


def _batches(store: FrameStore, indices: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    size = max(1, min(64, BATCH_VALUES // max(1, int(np.prod(store.shape[1:])))))
    for start in range(0, len(indices), size):
        chosen = indices[start : start + size]
        frames = np.empty((len(chosen), *store.shape[1:]), store.dtype)
        store.read_into(chosen, frames)
        yield store.whole_values(frames).swapaxes(0, 1), store.label[chosen]


def _export_nir(plan: Plan, path: Path, choice: ExportChoice) -> dict[str, Any]:
    from snn.export.nir_graph import write_nir

    if replace(choice, form=FixedPoint()) != ExportChoice():
        raise RunError(
            f"{path}: NIR keeps numbers in float, so that --power-of-two, --float-bits, --check and "
            "--samples do not go with it; leave them out, or choose a file ending in .npz"
        )
    nodes = write_nir(plan, path)
    return {"bytes": path.stat().st_size, "nodes": nodes}
