"""The CUDA text of a call and its spread over blocks: #defines before `neuron.cu`, and a grid."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import torch

from snn.neurons.kernels.launch import CHUNK, Inputs, Launch
from snn.neurons.settings import NeuronSettings

FORMATS = {
    torch.float16: "FLOAT16",
    torch.bfloat16: "BFLOAT16",
    torch.float32: "FLOAT32",
    torch.float64: "FLOAT64",
}
POOLS = {"none": "NO_POOL", "avg": "AVERAGE", "max": "MAXIMUM"}
RESETS = {"hard": "HARD", "soft": "SOFT", "soft_value": "SOFT_VALUE", "all": "EVERY"}
WIDTHS = {
    "membrane": "BY_MEMBRANE",
    "threshold": "BY_THRESHOLD",
    "lane": "BY_LANE",
    "ignore_threshold": "IGNORE_THRESHOLD",
}
THRESHOLD_GRADIENTS = {
    "none": "NONE",
    "subtract": "SUBTRACT",
    "subtract+explicit": "SUBTRACT_EXPLICIT",
    "subtract+squared": "SUBTRACT_SQUARED",
}

# Blocks of a launch at most, so that partial sums stay few; a thread then takes several neurons in turn.
MOST_BLOCKS = 4096
# Channels, or neighbouring neurons, that a block of the mapping ROWS works on side by side.
ROW_COLUMNS = 32
# Shared memory that every device has for a block.
SHARED_BYTES = 48 * 1024


@dataclass(frozen=True)
class Variant:
    """What of a call, beside its launch, the text depends on.

    Attributes:
        mapping: `FLAT`, `PLANES` or `ROWS`, see neuron.cu.
        backward: Whether the text holds the kernel backward or the one forward.
        v_given: Whether there is a first membrane.
        threshold_per_channel: Whether there is a threshold per channel.
        decay_per_channel: Whether there is a decay per channel.
        grad_v_given: Whether the last membrane has a gradient.
        write: Whether the gradients of y and of the first membrane are written.
        input_gradient: Whether the gradient of y is put together from g and y.
        sums: Whether g and g (y - mean) are added up.
    """

    mapping: str
    backward: bool = False
    v_given: bool = False
    threshold_per_channel: bool = False
    decay_per_channel: bool = False
    grad_v_given: bool = False
    write: bool = False
    input_gradient: bool = False
    sums: bool = False


@dataclass(frozen=True)
class Grid:
    """How a launch is spread over blocks.

    Attributes:
        threads: Threads of a block.
        blocks: Number of blocks: slices for each channel, or each 32 channels of the mapping ROWS.
        slices: Blocks that share a channel.
        sizes: Batch, channels, height and width as the mapping sees them.
    """

    threads: int
    blocks: int
    slices: int
    sizes: tuple[int, int, int, int]


def choose_mapping(launch: Launch, inputs: Inputs, *, per_channel: bool = False) -> str:
    """Return how neurons are spread over threads.

    Args:
        launch: The call.
        inputs: What it reads.
        per_channel: Whether the call knows further values per channel.
    """
    parameters = inputs.threshold.numel() > 1 or inputs.decay.numel() > 1
    if not (launch.affine or launch.masked or per_channel or parameters or launch.pool != "none"):
        return "FLAT"
    height, width = launch.height_width
    pixels_together = launch.channels_last or (height * width == 1 and launch.channels > 1)
    return "ROWS" if pixels_together else "PLANES"


def choose_grid(launch: Launch, variant: Variant) -> Grid:
    """Return threads, blocks and sizes of a launch; they depend on its sizes only, not on the device."""
    threads, columns = _threads(launch, variant), _columns(variant.mapping)
    height, width = launch.height_width
    sizes = (launch.batch, launch.channels, height, width)
    if variant.mapping == "FLAT":
        sizes = (1, 1, 1, launch.neurons)
    batch, channels, height, width = sizes
    if launch.pool != "none":
        height, width = -(-height // 2), -(-width // 2)
    groups = -(-channels // columns)
    wanted = -(-batch * height * width * columns // threads)
    slices = max(1, min(wanted, MOST_BLOCKS // groups))
    return Grid(threads=threads, blocks=groups * slices, slices=slices, sizes=sizes)


def _keeps_y(launch: Launch, variant: Variant) -> bool:
    """Return whether going backward needs y again after the membranes of a chunk are known."""
    return launch.settings.charge == "decay_input" or variant.sums or variant.input_gradient


def _chunk_in_shared(launch: Launch, variant: Variant) -> bool:
    """Return whether a thread keeps its chunk in shared memory, because registers would not hold it."""
    numbers = min(launch.steps, CHUNK) * (2 if _keeps_y(launch, variant) else 1)
    return variant.backward and (launch.pool != "none" or numbers > CHUNK)


def _threads(launch: Launch, variant: Variant) -> int:
    """Return threads of a block: as many as shared memory has room for."""
    if not _chunk_in_shared(launch, variant):
        return 256 if launch.pool == "none" else 128
    state, item = launch.state_dtype.itemsize, launch.dtype.itemsize
    neurons = 1 if launch.pool == "none" else 4
    each = neurons * (state + item * _keeps_y(launch, variant)) + item
    kept = min(launch.steps, CHUNK) * each + 4 * state
    return next((threads for threads in (128, 64) if threads * kept <= SHARED_BYTES), 32)


def _steps_together(launch: Launch) -> int:
    """Return for how many steps the loads start together going forward, within what registers hold.

    It divides CHUNK where there are several chunks.
    """
    if launch.pool == "none":
        return min(launch.steps, CHUNK)
    if launch.steps <= 5:
        return launch.steps
    return 5 if launch.steps <= CHUNK and launch.steps % 5 == 0 else 4


def _columns(mapping: str) -> int:
    return ROW_COLUMNS if mapping == "ROWS" else 1


@cache
def read_source() -> str:
    """Return neuron.cu."""
    return files("snn.neurons.kernels").joinpath("neuron.cu").read_text(encoding="utf-8")


@cache
def write_text(launch: Launch, variant: Variant) -> str:
    """Return the whole text of one kernel, `neuron_forward` or `neuron_backward`."""
    defines = {
        **_define_neuron(launch.settings),
        **_define_membrane(launch.settings),
        **_define_launch(launch),
        "THREADS": _threads(launch, variant),
        "KEEP_Y": _keeps_y(launch, variant),
        "CHUNK_IN_SHARED": _chunk_in_shared(launch, variant),
        "MAPPING": variant.mapping,
        "COLUMNS": _columns(variant.mapping),
        "BACKWARD": variant.backward,
        "V_GIVEN": variant.v_given,
        "THRESHOLD_PER_CHANNEL": variant.threshold_per_channel,
        "DECAY_PER_CHANNEL": variant.decay_per_channel,
        "GRAD_LAST_GIVEN": variant.grad_v_given,
        "WRITE": variant.write,
        "INPUT_GRADIENT": variant.input_gradient,
        "WITH_SUMS": variant.sums,
    }
    lines = [f"#define {name} {_text_of(value)}" for name, value in defines.items()]
    return "\n".join([*lines, read_source()])


def _text_of(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _define_launch(launch: Launch) -> dict[str, object]:
    pooled = launch.pool != "none"
    return {
        "FORMAT": FORMATS[launch.dtype],
        "STEPS": launch.steps,
        "CHUNK": CHUNK,
        "GROUP": _steps_together(launch),
        "POOL": POOLS[launch.pool],
        "LEFTOVER": pooled and any(size % 2 for size in launch.height_width),
        "AFFINE": launch.affine,
        "MASKED": launch.masked,
    }


def _define_neuron(settings: NeuronSettings) -> dict[str, object]:
    return {
        "LANES": settings.lanes,
        "LANE_VALUES": _table(settings.lane_values),
        "JUMPS": _table(value_jumps(settings)),
        "FIRED_JUMPS": _table(fired_jumps(settings)),
        "CUMULATIVE": settings.firing == "cumulative",
        "OPEN_AT_THRESHOLD": settings.fire_rule == ">",
        "DECAY_INPUT": settings.charge == "decay_input",
        "RESET": RESETS[settings.reset],
        "REST": _number(settings.rest),
        "RESTS_AT_ZERO": settings.rest == 0,
        "DETACHED": settings.detach_reset,
        "SURROGATE": settings.surrogate.upper(),
        "SURROGATE_WIDTH": WIDTHS[settings.surrogate_width],
        "SURROGATE_SCALE": _number(settings.surrogate_scale),
        "GAMMA": _number(settings.gamma),
        "SLOPE": _number(settings.slope),
        "PI": _number(torch.pi),
        "THRESHOLD_GRADIENT": THRESHOLD_GRADIENTS[settings.threshold_gradient],
    }


def _define_membrane(settings: NeuronSettings) -> dict[str, object]:
    membrane = settings.membrane
    return {
        "LEVELS": len(membrane.levels),
        "LEVEL_VALUES": _table(membrane.levels),
        "BOUNDARIES": _table(membrane.boundaries),
        "BUMP_HEIGHTS": _table(membrane.bump_heights),
        "FLOOR": membrane.rounding == "floor",
        "MEMBRANE_GRADIENT": membrane.gradient.upper(),
        "MEMBRANE_SLOPE": _number(membrane.slope),
        "MEMBRANE_TOP": _number(membrane.top),
    }


def value_jumps(settings: NeuronSettings) -> tuple[float, ...]:
    """Return how much the spike's value gains at the lower edge of each lane, going backward."""
    values = settings.lane_values
    if settings.firing == "cumulative":
        return values
    sign = -1 if settings.upper_edge == "subtract" else 1
    return (values[0], *(values[s] + sign * values[s - 1] for s in range(1, len(values))))


def fired_jumps(settings: NeuronSettings) -> tuple[float, ...]:
    """Return how much "fired at all" gains at the lower edge of each lane, going backward."""
    rest = 2.0 if settings.firing == "one_hot" and settings.upper_edge == "add" else 0.0
    return (1.0, *[rest] * (settings.lanes - 1))


def _number(value: float) -> str:
    return f"({float(value)!r})"


def _table(values: tuple[float, ...]) -> str:
    return "{" + ", ".join(f"R{_number(value)}" for value in values) + "}"
