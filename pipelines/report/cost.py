"""What the network costs for one sample: a part of the report."""

import html
from collections.abc import Sequence

from pipelines.report.energy import NOTES, EnergyTable, table_cells
from snn.cost.report import Cost
from snn.cost.text import about, layer_rows, neuron_rows, total_lines


def cost_section(cost: Cost, beside: EnergyTable) -> str:
    """Return the section of the page.

    Args:
        cost: Of the run's network.
        beside: The same beside its twins.
    """
    totals = "".join(_total(line) for line in total_lines(cost))
    tables = _table(layer_rows(cost)) + _table(neuron_rows(cost))
    notes = html.escape("; ".join(f"{name}: {' '.join(words)}" for name, words in NOTES.items()))
    return f"""<section><h2>What it costs</h2>
    <p class="soft">For {html.escape(about(cost))} test samples. An operation is a use of a weight by an
    input that is not 0: of binary and ternary inputs an accumulation, of powers of two one after a shift, of
    others a multiply-accumulate.</p>
    <table>{totals}</table>
    <p class="soft">Beside ANNs of the same layers</p>{_table(table_cells(beside))}
    <p class="soft">{notes}.</p>
    <details><summary>Layer by layer</summary>{tables}</details></section>"""


def _total(line: str) -> str:
    name, _, words = line.partition(" ")
    return f"<tr><th>{html.escape(name)}</th><td>{html.escape(words.strip())}</td></tr>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    cells = ["".join(f"<th>{html.escape(cell)}</th>" for cell in head)]
    cells += ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in body]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
