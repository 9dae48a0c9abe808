"""The energy of runs beside that of ANNs of the same layers: `pipelines report RUN... --energy`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from typing import Any

from pipelines.errors import RunError
from pipelines.run_folder import RunFolder
from snn.cost.energy import TABLES
from snn.cost.report import Cost
from snn.cost.text import aligned, short
from snn.cost.twins import Arithmetic, ann_twin, measured, quantised_twin, with_shift_of

NETWORK, ANN = "network", "ANN, every product"
OPERATIONS = ("operations", "additions", "shifts", "products")
HEADINGS = ("", "accuracy", *OPERATIONS, "energy", "ratio", "as published", "ratio")
# What the columns mean, below the tables.
NOTES = {
    "energy": ("arithmetic alone, no memory, updates of neurons with it; an input decides its operations",),
    "as published": (
        "45 nm, one-hot M-LIF (IEEE Access 2025): 4.6 pJ for each product of a first layer that is given",
        "numbers, 0.9 pJ for any other operation; nothing for shifts, neurons, gates and attention",
    ),
    "ratio": ("of the row to that of the network",),
}


@dataclass(frozen=True)
class EnergyRow:
    """One network of a table.

    Attributes:
        name: What it is.
        accuracy: On the test samples, 0 to 1; None where no such network was trained.
        found: What it computes for one sample.
    """

    name: str
    accuracy: float | None
    found: Arithmetic


@dataclass(frozen=True)
class EnergyTable:
    """A run beside its twins.

    Attributes:
        run: Its folder.
        about: The network in words.
        source: Where the energy of an operation is from.
        rows: The run's network first.
    """

    run: str
    about: str
    source: str
    rows: tuple[EnergyRow, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON types, microjoules among them."""
        rows = []
        for row in self.rows:
            found = asdict(row.found) | {"operations": row.found.operations}
            of_all = {name: 1e-6 * found.pop(f"{name}_pj") for name in ("neuron", "energy", "published")}
            named = {f"{name}_uj": value for name, value in of_all.items()}
            rows.append({"name": row.name, "accuracy": row.accuracy} | found | named)
        return {"run": self.run, "about": self.about, "source": self.source, "rows": rows}


def energy_table(folder: RunFolder, *, shift_pj: float | None = None) -> EnergyTable:
    """Return a finished run beside its twins.

    Twins of a conversion are the networks that it trained; where one is missing, and of any other run, they
    are the same layers with every product counted.

    Args:
        folder: Of `pipelines run classify` or `pipelines run convert`; a detector's is refused.
        shift_pj: Energy of the shift of a weight by the level of a spike; None takes the table's.

    Raises:
        RunError: The folder is no run, has not finished, or does not know its cost.
    """
    if folder.kind == "detect":
        raise RunError(
            f"{folder.path}: a detector, whose energy stands in {folder.report.name}; leave it out here"
        )
    stages = folder.is_conversion
    if stages:
        folder.read_results()  # a conversion that has not finished is refused
    network = RunFolder(folder.path / "snn") if stages else folder
    settings, (accuracy, cost) = network.read_settings(), _tested(network, shift_pj)
    # A picture that is repeated over steps is one frame for an ANN; of a recording it sees every frame.
    frames = cost.steps if settings["model"].get("steps") is None else 1.0
    rows = [EnergyRow(NETWORK, accuracy, measured(cost))]
    of_stages = {name: _stage(folder, name, shift_pj) if stages else None for name in ("ann", "quantised")}
    if (ann := of_stages["ann"]) is None:
        rows.append(EnergyRow(ANN, None, ann_twin(cost, frames=frames)))
    else:
        rows.append(EnergyRow(ANN, ann[0], ann_twin(ann[1], frames=1.0)))
        rows.append(EnergyRow("ANN, measured, zeros left out", ann[0], measured(ann[1])))
    if (quantised := of_stages["quantised"]) is None:
        rows.append(EnergyRow("quantised ANN, every operation", None, quantised_twin(cost, frames=frames)))
    else:
        rows.append(EnergyRow("quantised ANN, measured", quantised[0], measured(quantised[1])))
    about = f"{settings['model']['name']}, one sample of {cost.steps:g} steps, mean of {cost.samples}"
    return EnergyTable(str(folder.path), about, TABLES[cost.energy.table].source, tuple(rows))


def energy_lines(tables: Sequence[EnergyTable]) -> list[str]:
    """Return the tables as text, one below the other, in columns of the same width."""
    cells = [table_cells(table) for table in tables]
    rows = iter(aligned(list(chain.from_iterable(cells))))
    lines = []
    for table, of_table in zip(tables, cells, strict=True):
        lines += [f"{table.run}: {table.about}", *islice(rows, len(of_table)), ""]
    sources = dict.fromkeys(table.source for table in tables)
    for name, words in (NOTES | {"energy": (*NOTES["energy"], *sources)}).items():
        lines += [f"{start:14}{line}" for start, line in zip([name, *[""] * len(words)], words, strict=False)]
    return lines


def table_cells(table: EnergyTable) -> list[tuple[str, ...]]:
    """Return a table's rows of text, headings first."""
    network = table.rows[0].found
    cells = [
        (
            row.name,
            "" if row.accuracy is None else f"{100 * row.accuracy:.2f} %",
            *map(short, (row.found.operations, row.found.accumulations, row.found.shifts, row.found.macs)),
            f"{row.found.energy_pj / 1e6:.4g} uJ",
            _ratio(row.found.energy_pj, network.energy_pj),
            f"{row.found.published_pj / 1e6:.4g} uJ",
            _ratio(row.found.published_pj, network.published_pj),
        )
        for row in table.rows
    ]
    return [HEADINGS, *cells]


def _ratio(energy: float, of: float) -> str:
    return f"{energy / of:.3g}" if of else ""


def _stage(folder: RunFolder, name: str, shift_pj: float | None) -> tuple[float, Cost] | None:
    """Return what a stage of a conversion was tested as; None where it was not trained here."""
    stage = RunFolder(folder.path / name)
    return _tested(stage, shift_pj) if stage.results.exists() else None


def _tested(folder: RunFolder, shift_pj: float | None) -> tuple[float, Cost]:
    test = folder.read_results()["test"]
    if test.get("cost") is None:
        raise RunError(
            f"{folder.results}: no cost, it is of an earlier version; `pipelines evaluate {folder.path} "
            "--cost` counts it, a new run keeps it"
        )
    cost = Cost.from_dict(test["cost"])
    return test["accuracy"], cost if shift_pj is None else with_shift_of(cost, shift_pj)
