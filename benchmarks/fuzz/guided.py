"""Fuzz the readers under coverage guidance, with atheris in an environment of its own.

    python3.11 -m venv fuzzing && fuzzing/bin/pip install atheris
    PYTHONPATH=.:.venv/lib/python3.11/site-packages fuzzing/bin/python -m benchmarks.fuzz.guided \
        -max_total_time=600 -max_len=20000 fuzz-corpus

The first folder named holds the corpus: it is filled with recordings made by our writers, and with what
reaches new code. Coverage is that of the Python code: headers, containers, packets, policies; the compiled
loops are seen only through it. What must hold is in `check.py`.
"""

import sys
import tempfile
from pathlib import Path
from types import FunctionType, ModuleType

import atheris

from benchmarks.fuzz.check import check
from benchmarks.fuzz.corpus import made_seeds

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))


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
    found = [value for space in spaces for value in space.values() if isinstance(value, FunctionType)]
    return [function for function in found if function.__module__ == module.__name__]


def one_input(data: bytes) -> None:
    """Check one input as a file, its format told by its content."""
    path = FOLDER / "input"
    path.write_bytes(data)
    check(path, formats=(None,))


def main() -> None:
    """Fill the corpus and fuzz."""
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for folder in folders[:1]:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (format, data) in enumerate(made_seeds()):
            (folder / f"made-{format}-{number}").write_bytes(data)
    print(f"{instrument_readers()} functions report what they reach")
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
