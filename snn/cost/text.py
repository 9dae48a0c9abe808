"""A network's cost as a table for people."""

from collections.abc import Sequence

from snn.cost.energy import TABLES
from snn.cost.report import Cost, LayerCost, NeuronCost

HEADINGS = ("layer", "weights", "bits", "kB", "dense", "effective", "of dense", "input", "nJ")
NEURON_HEADINGS = ("layer", "neurons", "levels", "bits", "stored", "kB", "updates", "nJ")


def cost_lines(cost: Cost) -> list[str]:
    """Return the lines of a report: layers, neurons, totals; k, M and G are 10^3, 10^6 and 10^9."""
    tables = aligned(layer_rows(cost)), aligned(neuron_rows(cost))
    return [about(cost), "", *tables[0], "", *tables[1], "", *total_lines(cost)]


def about(cost: Cost) -> str:
    """Return what all numbers are for."""
    return f"one sample of {cost.steps:g} steps, mean of {cost.samples}"


def layer_rows(cost: Cost) -> list[tuple[str, ...]]:
    """Return the table of layers, its headings first."""
    return [HEADINGS, *(_layer_row(layer) for layer in cost.layers)]


def neuron_rows(cost: Cost) -> list[tuple[str, ...]]:
    """Return the table of neurons, its headings first."""
    return [NEURON_HEADINGS, *(_neuron_row(layer) for layer in cost.neurons)]


def total_lines(cost: Cost) -> list[str]:
    """Return the totals in words, one line for each thing."""
    total = cost.totals()
    share = total["effective"] / total["dense_macs"] if total["dense_macs"] else 0.0
    of_operations, of_neurons = total["synapse_energy_pj"], total["neuron_energy_pj"]
    return [
        f"weights     {total['weights']:,.0f} in {_size(total['weight_bytes'])}, "
        f"biases, normalisations and others {_size(cost.other_bytes)}",
        f"membranes   {total['neurons']:,.0f} in {_size(total['membrane_bytes'])}, "
        f"{_size(total['traffic_bytes'])} read and written, {short(total['updates'])} updates",
        f"operations  {short(total['dense_macs'])} dense, {short(total['effective'])} effective "
        f"({100 * share:.1f} %): {short(total['accumulations'])} accumulations "
        f"({short(total['shifts'])} after a shift), {short(total['macs'])} multiply-accumulates",
        f"energy      {total['energy_pj'] / 1e6:.4g} uJ, {of_operations / 1e6:.4g} for operations and "
        f"{of_neurons / 1e6:.4g} for neurons: arithmetic alone, no memory",
        f"            {TABLES[cost.energy.table].source}",
    ]


def short(number: float) -> str:
    """Return a number of operations in three digits: 1.23 M."""
    for factor, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return f"{number:.3g}"


def _size(count: float) -> str:
    """Return bytes in kB or MB, 10^3 and 10^6 bytes."""
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.2f} kB"


def _layer_row(layer: LayerCost) -> tuple[str, ...]:
    share = layer.effective / layer.dense_macs if layer.dense_macs else 0.0
    return (
        layer.name,
        f"{layer.weights:,}",
        str(layer.bits) if layer.weights else "",
        f"{layer.weight_bytes / 1e3:.2f}",
        short(layer.dense_macs),
        short(layer.effective),
        f"{100 * share:.1f} %",
        layer.values,
        f"{layer.energy_pj / 1e3:.4g}",
    )


def _neuron_row(layer: NeuronCost) -> tuple[str, ...]:
    return (
        layer.name,
        f"{layer.neurons:,}",
        str(layer.levels) if layer.levels else "float",
        f"{layer.true_bits:.2f}",
        str(layer.bits),
        f"{layer.membrane_bytes / 1e3:.2f}",
        short(layer.updates),
        f"{layer.energy_pj / 1e3:.4g}",
    )


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of a table as lines, columns of the same width, all but the first to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
