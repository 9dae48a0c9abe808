"""Feed damaged recordings to every reader.

    .venv/bin/python -m benchmarks.fuzz.run --seconds 600
    NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=/tmp/checked .venv/bin/python -m benchmarks.fuzz.run --seconds 600

Claim: for any bytes there is an error of ours in one line, or events on the sensor and a report that counts
them; never another exception, a hang, or memory beyond four times the file and a few fixed buffers. With
Numba's bounds checks, as in the second line, an index outside an array is an exception too.

Inputs are mutations of small recordings made of every format (`corpus.py`), and of the files of `--seeds`.
The same `--seed` gives the same inputs. An input that breaks a reader is kept in `--keep`; the exit code is
then 1. `benchmarks/fuzz/guided.py` does the same under coverage guidance.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

from benchmarks.fuzz.check import check
from benchmarks.fuzz.corpus import folder_seeds, made_seeds
from benchmarks.fuzz.mutate import mutate

# Address space that a child may take beyond what it has at first: a claim of more is refused.
ADDRESS_SPACE = 2 << 30


def inputs(seeds: list[tuple[str, bytes]], seed: int, start: int):
    """Yield (number, format, bytes) without end, from number `start` on; each depends on seed and number."""
    number = start
    while True:
        rng = np.random.default_rng([seed, number])
        format, data = seeds[number % len(seeds)]
        other = seeds[int(rng.integers(len(seeds)))][1]
        yield number, format, mutate(data, other, rng)
        number += 1


def work(arguments: argparse.Namespace, start: int, deadline: float, pipe) -> None:
    """Check inputs until the deadline or the first that breaks a reader; tells each number before it."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    seeds = made_seeds() + (folder_seeds(arguments.seeds) if arguments.seeds else [])
    seeds = [seed for seed in seeds if arguments.format in (None, seed[0])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "input"
        for format, data in seeds:  # compiles, before memory is limited
            path.write_bytes(data)
            check(path, formats=(format or None,))
        resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, resource.RLIM_INFINITY))
        for number, format, data in inputs(seeds, arguments.seed, start):
            if number >= arguments.inputs or time.monotonic() >= deadline:
                pipe.send(("end", number, 0))
                return
            pipe.send(("at", number, (format, data)))
            path.write_bytes(data)
            try:
                pipe.send(("events", number, check(path, formats=(None, format or None))))
            except Exception:  # noqa: BLE001 - any exception is a finding
                pipe.send(("broken", number, traceback.format_exc()))
                return


def main() -> int:
    """Run; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--inputs", type=int, default=sys.maxsize, help="end after that many inputs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", help="only mutations of recordings of this format")
    parser.add_argument("--seeds", type=Path, help="folder of more recordings to mutate")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-found"))
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    number, done, readable, found = 0, 0, 0, 0
    while number < arguments.inputs and time.monotonic() < deadline:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            target=work, args=(arguments, number, deadline, theirs)
        )
        child.start()
        theirs.close()
        format, data, reason, ended = "", b"", "", False
        try:
            while not ended:
                kind, number, what = ours.recv()
                if kind == "at":
                    format, data = what
                elif kind == "events":
                    done, readable = done + 1, readable + (what > 0)
                elif kind == "broken":
                    reason, ended = what, True
                else:
                    ended = True
        except EOFError:
            reason = "the process died: a hang, a crash, or an exit; see above"
        child.join()
        if reason:
            found += 1
            arguments.keep.mkdir(parents=True, exist_ok=True)
            kept = arguments.keep / f"seed{arguments.seed}-input{number}"
            kept.write_bytes(data)
            print(
                f"BROKEN by {kept} (was {format}, {len(data)} bytes), exit {child.exitcode}:\n{reason}",
                flush=True,
            )
            number += 1
    print(f"{done} inputs sound, {readable} of them with events; {found} broke a reader")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
