"""Fuzz the readers under coverage guidance, with atheris in an environment of its own.

    python3.11 -m venv fuzzing && fuzzing/bin/pip install atheris
    PYTHONPATH=.:.venv/lib/python3.11/site-packages fuzzing/bin/python -m benchmarks.fuzz.guided \
        --plain -max_total_time=600 -max_len=12000 fuzz-corpus

The first folder named holds the corpus: it is filled with recordings of every format, and with what reaches
new code. What must hold is in `check.py`; an input that breaks it is kept in `--keep=FOLDER` (fuzz-found),
once for each place in the code, and the fuzzing goes on.

`--plain` runs the decoding loops as Python: coverage guides into them, and every index outside an array is
an exception, negative ones too, see `plain_kernels.py`. Without it they are compiled, some hundred times
faster, and seen only through the code around them; run that with NUMBA_BOUNDSCHECK=1, and an index outside
is an exception as well.

`--replay` runs the corpus once and prints how many of each reader's lines it reaches.
"""

import hashlib
import sys
import tempfile
import traceback
from pathlib import Path
from types import FunctionType, ModuleType

import atheris
import numpy as np

from benchmarks.fuzz import plain_kernels

PLAIN = "--plain" in sys.argv
if PLAIN:
    plain_kernels.take_over()

from benchmarks.fuzz import check as check_module  # noqa: E402 - kernels are taken over before they are compiled
from benchmarks.fuzz.corpus import made_seeds  # noqa: E402
from benchmarks.fuzz.lines import LinesReached  # noqa: E402
from benchmarks.fuzz.mutate import MUTATIONS  # noqa: E402
from events.readers import record_pass  # noqa: E402

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
# Where loops are Python: seconds for one file, how far salvage looks for sound records, and events of a file
# of which ranges are read as well.
PLAIN_SECONDS = 1200
PLAIN_SEARCH_BYTES = 256
PLAIN_KEPT = 1 << 8
OURS = ("--plain", "--replay", "--keep")


def instrument_readers() -> int:
    """Make the readers' Python functions report what they reach; return how many there are.

    Not while they are imported: Numba cannot compile a function that reports.
    """
    modules = [module for name, module in sorted(sys.modules.items()) if name.startswith("events.readers.")]
    functions = [function for module in modules for function in plain_functions(module)]
    for function in functions:
        atheris.instrument_func(function)
    return len(functions)


def plain_functions(module: ModuleType) -> list[FunctionType]:
    """Return the functions and methods that a module defines and Numba does not compile."""
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    spaces = [vars(module), *(vars(one) for one in classes if one.__module__ == module.__name__)]
    values = [value for space in spaces for value in space.values()]
    values += [accessor for value in values if isinstance(value, property) for accessor in (value.fget,)]
    found = [plain_kernels.kernel_of(value) for value in values if isinstance(value, FunctionType)]
    return [function for function in found if function.__module__ == module.__name__]


def one_input(data: bytes) -> None:
    """Check one input as a file, its format told by its content; keep it where it breaks something."""
    path = FOLDER / "input"
    path.write_bytes(data)
    try:
        check_module.check(path, formats=(None,))
    except Exception as error:  # noqa: BLE001 - any exception is a finding
        keep(data, error)


def keep(data: bytes, error: Exception) -> None:
    """Keep an input that broke something, and say how, unless one broke it in the same place."""
    folder = Path(next((a[len("--keep=") :] for a in sys.argv if a.startswith("--keep=")), "fuzz-found"))
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    place = repr([type(error).__name__, [(frame.name, frame.line) for frame in frames]])
    path = folder / hashlib.sha256(place.encode()).hexdigest()[:12]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.with_suffix(".txt").write_text("".join(traceback.format_exception(error)))
        print(f"BROKEN by {path}:\n{''.join(traceback.format_exception(error))}", flush=True)


def mutate(data: bytes, most_bytes: int, seed: int) -> bytes:
    """Return an input made from another: as libFuzzer does, or as `mutate.py`, within packed parts too."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.6:
        return atheris.Mutate(data, most_bytes)
    for _ in range(int(rng.integers(1, 4))):
        data = MUTATIONS[int(rng.integers(len(MUTATIONS)))](data, data, rng)[:most_bytes]
    return data


def main() -> None:
    """Fill the corpus and fuzz, or replay it."""
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for folder in folders[:1]:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (format, data) in enumerate(made_seeds()):
            (folder / f"made-{format}-{number}").write_bytes(data)
    if "--replay" in sys.argv:
        with LinesReached("events.readers") as reached:
            for path in sorted(folders[0].iterdir()):
                one_input(path.read_bytes())
        reached.print()
        return
    if PLAIN:
        check_module.SECONDS, check_module.MOST_KEPT = PLAIN_SECONDS, PLAIN_KEPT
        record_pass.SEARCH_BYTES = PLAIN_SEARCH_BYTES
    print(f"{instrument_readers()} functions report what they reach", flush=True)
    arguments = [argument for argument in sys.argv if not argument.startswith(OURS)]
    atheris.Setup(arguments, one_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
