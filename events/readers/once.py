"""A property that is worked out when it is first asked for."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

Value = TypeVar("Value")


class Once(Generic[Value]):
    """As `functools.cached_property`, without the lock that one has before Python 3.12.

    All objects of a class share that lock: of threads that each look through a file of their own for the size
    of its sensor, it lets in one at a time. Two threads that ask one object may both work the value out.
    """

    def __init__(self, work_out: Callable[[Any], Value]) -> None:
        """Wrap the method that works the value out."""
        self._work_out = work_out
        self.__doc__ = work_out.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        """Note under which name objects keep the value, where they find it from then on."""
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> Self | Value:
        """Work the value out, for an object that does not have it yet."""
        if instance is None:
            return self
        value = self._work_out(instance)
        instance.__dict__[self._name] = value
        return value
