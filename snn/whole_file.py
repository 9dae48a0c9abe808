"""Write a file whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the name of a temporary file beside `path`, and put it in its place once the block ends well.

    Its content is on the disk before it gets its name, so a crash leaves the old file or the new one. Where
    the block raises, the temporary file is removed and nothing else has changed.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
