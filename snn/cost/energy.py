"""Energy of arithmetic from published tables. A model, not a measurement: memory and wires are not in it.

Weights of at most 8 bits are multiplied as int8 and added up as `accumulator`; those in float as fp32.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from snn.cost.nonzeros import Values
from snn.errors import CostError, did_you_mean
from snn.quant.settings import FLOAT_BITS

Accumulator = Literal["int32", "int8"]


@dataclass(frozen=True)
class EnergyTable:
    """Picojoules of one operation.

    Attributes:
        source: Where the numbers are from.
        add_pj: By number format: int8, int32, fp32.
        multiply_pj: Likewise.
        shift_pj: Of a whole number, likewise. A float is shifted by adding to its exponent, an int8 addition.
    """

    source: str
    add_pj: dict[str, float]
    multiply_pj: dict[str, float]
    shift_pj: dict[str, float]


TABLES: dict[str, EnergyTable] = {
    # Additions and multiplications: Horowitz, "Computing's energy problem (and what we can do about it)",
    # ISSCC 2014, fig. 1.1.9. Shifts: You et al., "ShiftAddNet", NeurIPS 2020, table 1, 45 nm as well.
    "45nm": EnergyTable(
        source="45 nm, 0.9 V: Horowitz, ISSCC 2014; shifts You et al., NeurIPS 2020",
        add_pj={"int8": 0.03, "int32": 0.1, "fp32": 0.9},
        multiply_pj={"int8": 0.2, "int32": 3.1, "fp32": 3.7},
        shift_pj={"int8": 0.024, "int32": 0.13},
    ),
    # Jouppi et al., "Ten Lessons From Three Generations Shaped Google's TPUv4i", ISCA 2021, table 2. It has
    # no shifts: additions stand for them, which is ours.
    "7nm": EnergyTable(
        source="7 nm: Jouppi et al., ISCA 2021; shifts taken as additions",
        add_pj={"int8": 0.007, "int32": 0.03, "fp32": 0.38},
        multiply_pj={"int8": 0.07, "int32": 1.48, "fp32": 1.31},
        shift_pj={"int8": 0.007, "int32": 0.03},
    ),
}


@dataclass(frozen=True)
class EnergySettings:
    """Which numbers energy is computed with.

    Attributes:
        table: Key of `TABLES`.
        accumulator: Format in which sums of few-bit weights are kept. `int32`: wide enough for them. `int8`:
            as many papers count, though 8 bits hold no such sum.
        shift_pj: Of the shift of a weight by the level of a spike, in place of the table's; None takes that.
            0 leaves it out, as papers do.
    """

    table: str = "45nm"
    accumulator: Accumulator = "int32"
    shift_pj: float | None = None

    def __post_init__(self) -> None:
        for name, known in (("table", tuple(TABLES)), ("accumulator", get_args(Accumulator))):
            found = getattr(self, name)
            if found not in known:
                hint = did_you_mean(found, known)
                raise CostError(f"energy.{name}: found {found!r}, expected one of {', '.join(known)}{hint}")
        if self.shift_pj is not None and not 0 <= self.shift_pj < float("inf"):
            raise CostError(
                f"energy.shift_pj: found {self.shift_pj}, expected picojoules from 0, or none for the table's"
            )

    def operation_pj(self, values: Values, bits: int) -> float:
        """Return the energy of one use of a weight.

        Args:
            values: What the values of the layer's input have in common.
            bits: Of the weight.
        """
        table, is_float = TABLES[self.table], bits == FLOAT_BITS
        add = table.add_pj["fp32" if is_float else self.accumulator]
        if values <= Values.TERNARY:
            return add
        if values == Values.POWERS:
            shift = table.add_pj["int8"] if is_float else table.shift_pj[self.accumulator]
            return add + (shift if self.shift_pj is None else self.shift_pj)
        return add + table.multiply_pj["fp32" if is_float else "int8"]

    def update_pj(self, update: "NeuronUpdate", *, whole: bool) -> float:
        """Return the energy of one update of a neuron, in whole numbers of 32 bits or in fp32."""
        table, number = TABLES[self.table], "int32" if whole else "fp32"
        shift = table.shift_pj["int32"] if whole else table.add_pj["int8"]
        return (
            update.additions * table.add_pj[number]
            + update.multiplications * table.multiply_pj[number]
            + update.shifts * shift
        )


@dataclass(frozen=True)
class NeuronUpdate:
    """Operations of one neuron in one step; a comparison is an addition.

    Attributes:
        additions: Charge, comparisons with thresholds and levels, and a soft reset.
        multiplications: Decay, and gain of the current.
        shifts: The same where they are powers of two.
    """

    additions: int
    multiplications: int
    shifts: int
