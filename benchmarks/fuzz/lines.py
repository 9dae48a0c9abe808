"""Which lines of a package's functions are run."""

import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self


class LinesReached:
    """Notes the lines of a package's functions that run while it is entered; compiled ones are not seen."""

    def __init__(self, package: str) -> None:
        """Note lines of modules whose name starts with `package` and a dot."""
        self._prefix = f"{package}."
        self._reached: dict[CodeType, set[int]] = {}

    def __enter__(self) -> Self:
        """Begin."""
        sys.settrace(self._call)
        return self

    def __exit__(self, *_error: object) -> None:
        """End."""
        sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if not frame.f_globals.get("__name__", "").startswith(self._prefix):
            return None
        lines = self._reached.setdefault(frame.f_code, set())

        def line(frame: FrameType, event: str, _argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return line

        return line

    def print(self) -> None:
        """Print a line for each module: lines reached, lines in all, and which were not reached."""
        total = [0, 0]
        for name, module in sorted(sys.modules.items()):
            if not name.startswith(self._prefix) or not getattr(module, "__file__", None):
                continue
            path = str(module.__file__)
            found = {code: lines for code, lines in self._reached.items() if code.co_filename == path}
            wanted = set().union(*map(lines_of, all_codes(path)))
            got = set().union(*found.values()) & wanted if found else set()
            total = [total[0] + len(got), total[1] + len(wanted)]
            missed = " ".join(map(str, sorted(wanted - got)))
            print(f"{name:36} {len(got):4} of {len(wanted):4}  {missed}")
        print(f"{total[0]} of {total[1]} lines, {100 * total[0] / max(total[1], 1):.1f} %")


def all_codes(path: str) -> list[CodeType]:
    """Return the code of every function in a file, inner ones too; not that of modules and classes."""
    waiting = [compile(Path(path).read_bytes(), path, "exec")]
    found = []
    while waiting:
        code = waiting.pop()
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        if code.co_flags & 1:  # CO_OPTIMIZED: a function
            found.append(code)
    return found


def lines_of(code: CodeType) -> set[int]:
    """Return the lines of a function, but for its first, which only says its name."""
    return {line for _, _, line in code.co_lines() if line is not None and line != code.co_firstlineno}
