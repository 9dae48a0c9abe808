"""A file that a library writes which cannot bear a full disk."""

from collections.abc import Iterable, Iterator
from io import FileIO
from typing import Any, TypeVar

Part = TypeVar("Part")


class PatientFile(FileIO):
    """A file in which a failure to write is kept until the library that writes has closed it.

    HDF5 crashes the process where it cannot write what it holds while it closes, as on a full disk.

    Attributes:
        failure: What the first write that failed failed with.
    """

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`; after a failure, nothing."""
        rest = memoryview(data).cast("B")
        try:
            while self.failure is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Set the file's size; after a failure, do nothing."""
        return super().truncate(size) if self.failure is None else size or 0

    def until_failure(self, parts: Iterable[Part]) -> Iterator[Part]:
        """Yield what is to be written until a write has failed.

        Raises:
            OSError: One has.
        """
        for part in parts:
            yield part
            self.check()

    def check(self) -> None:
        """Raise what a write failed with.

        Raises:
            OSError: One has.
        """
        if self.failure is not None:
            raise self.failure
