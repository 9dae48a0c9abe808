"""Frozen dataclasses filled from TOML tables and `--set` values, and written back as TOML.

The dataclasses are the truth: their fields name what can be set, their annotations what is accepted,
their `__post_init__` what makes sense. Files only fill them.
"""

import difflib
import json
import tomllib
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from events.errors import EventsError, did_you_mean
from pipelines.errors import ExperimentError
from snn.errors import SnnError

S = TypeVar("S")

# How None is written: TOML has no word for it.
NONE = "none"
# The key that names the settings a table starts from; no field may have this name.
PRESET = "preset"
# Settings of earlier versions, and what to write instead.
REPLACED = {
    "model.neuron.kind": 'instead of kind "lt" write learn_threshold = true, '
    'instead of kind "lif" learn_threshold = false'
}


def build_settings(
    kind: type[S], table: Mapping[str, Any], *, where: str, path: str = "", start: S | None = None
) -> S:
    """Build a settings dataclass from a table of plain TOML values.

    A dataclass may have named settings to start from, a class variable `PRESETS: dict[str, itself]`. The
    key `preset` of its table takes one of them; the other keys change it, whatever their order.

    Args:
        kind: The dataclass; its fields may be dataclasses themselves.
        table: Values by field name; fields left out keep their default.
        where: What the table came from, for messages.
        path: Dotted name of the table, empty at the top.
        start: Settings to change; None starts from the defaults.

    Raises:
        ExperimentError: An unknown name (the nearest known one is suggested), a value of the wrong
            type, or one that the dataclass refuses.
    """
    hints, names = get_type_hints(kind), {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if PRESET in table and _presets(kind):
        start = _preset(kind, table[PRESET], where=where, path=f"{path}.{PRESET}" if path else PRESET)
    values = {}
    for name, value in table.items():
        if name == PRESET and _presets(kind):
            continue
        dotted = f"{path}.{name}" if path else name
        if name not in names:
            raise ExperimentError(f"{where}: {_unknown(dotted, name, kind, path)}")
        inner = None if start is None else getattr(start, name)
        values[name] = _converted(value, hints[name], where=where, path=dotted, start=inner)
    try:
        return kind(**values) if start is None else replace(start, **values)  # type: ignore[type-var]
    except (EventsError, SnnError) as error:
        raise ExperimentError(f"{where}: {f'[{path}] ' if path else ''}{error}") from error


def _presets(kind: Any) -> dict[str, Any]:
    """Return the named settings a dataclass can start from, empty for most."""
    return getattr(kind, "PRESETS", {})


def _preset(kind: Any, name: Any, *, where: str, path: str) -> Any:
    presets = _presets(kind)
    if isinstance(name, str) and name in presets:
        return presets[name]
    hint = did_you_mean(name, presets)
    raise ExperimentError(f"{where}: {path} must be one of {', '.join(presets)}, got {name!r}{hint}")


def _unknown(dotted: str, name: str, kind: Any, path: str) -> str:
    """Say that a setting is unknown, and which known one is nearest in name."""
    if dotted in REPLACED:
        return f"setting {dotted!r} was replaced: {REPLACED[dotted]}"
    known = [field.name for field in fields(kind)] + [PRESET] * bool(_presets(kind))
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        suggestion = f"{path}.{near[0]}" if path else near[0]
        return f"unknown setting {dotted!r}; did you mean {suggestion!r}?"
    return f"unknown setting {dotted!r}; known here: {', '.join(known)}"


def _converted(value: Any, annotation: Any, *, where: str, path: str, start: Any = None) -> Any:
    """Return a TOML value as the annotated type, or raise ExperimentError."""
    if is_dataclass(annotation) and isinstance(annotation, type):
        if not isinstance(value, Mapping):
            raise ExperimentError(f"{where}: {path} is a table of settings, got {value!r}")
        return build_settings(annotation, value, where=where, path=path, start=start)
    for accepted in _alternatives(annotation):
        fits, converted = _fit(value, accepted)
        if fits:
            return converted
    raise ExperimentError(
        f"{where}: {path} must be {_described(annotation)}, got {value!r}{_near(value, annotation)}"
    )


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        # None first: its word must not be taken for text.
        return tuple(sorted(get_args(annotation), key=lambda kind: kind is not type(None)))
    return (annotation,)


def _fit(value: Any, kind: Any) -> tuple[bool, Any]:
    """Return whether a value can be taken as a type, and the value as that type."""
    if kind is type(None):
        return value is None or value == NONE, None
    if get_origin(kind) is Literal:
        return value in get_args(kind), value
    if get_origin(kind) is tuple:
        return _fit_tuple(value, get_args(kind))
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number, float(value) if is_number else value
    # bool is an int to Python, not to people.
    return type(value) is kind, value


def _fit_tuple(value: Any, kinds: tuple[Any, ...]) -> tuple[bool, Any]:
    if not isinstance(value, list | tuple):
        return False, value
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        return False, value
    parts = [_fit(part, kind) for part, kind in zip(value, kinds, strict=True)]
    return all(fits for fits, _ in parts), tuple(part for _, part in parts)


def _described(annotation: Any) -> str:
    """Return what values a type accepts, for people."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): NONE}
    words = []
    for kind in _alternatives(annotation):
        if get_origin(kind) is Literal:
            words += [repr(choice) for choice in get_args(kind)]
        elif get_origin(kind) is tuple and Ellipsis in get_args(kind):
            words.append("a list of values such as [-1, 0, 1]")
        elif get_origin(kind) is tuple:
            words.append(f"a list of {len(get_args(kind))} values such as [48, 48]")
        else:
            words.append(names.get(kind, str(kind)))
    return " or ".join(words)


def _near(value: Any, annotation: Any) -> str:
    choices = [c for kind in _alternatives(annotation) if get_origin(kind) is Literal for c in get_args(kind)]
    return did_you_mean(value, choices)


def parse_assignment(text: str) -> tuple[list[str], Any]:
    """Split `a.b=value` into its names and its value: a TOML value, or else plain text.

    Raises:
        ExperimentError: There is no name or no equals sign.
    """
    name, equals, value = text.partition("=")
    names = [part.strip() for part in name.split(".")]
    if not equals or not all(names):
        raise ExperimentError(f"--set {text}: expected name=value, such as --set training.epochs=20")
    try:
        return names, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return names, value.strip()


def presets_first(assignments: Iterable[tuple[list[str], Any]]) -> list[tuple[list[str], Any]]:
    """Return assignments in the order to make them: presets, outer tables before inner ones, then the rest.

    A preset begins its table anew; so values given beside it change it, wherever they were said.
    """
    return sorted(
        assignments, key=lambda pair: (pair[0][-1] != PRESET, len(pair[0]) * (pair[0][-1] == PRESET))
    )


def assign(table: dict[str, Any], names: list[str], value: Any) -> None:
    """Set a value in nested tables, making the tables on the way; a preset replaces its table.

    Raises:
        ExperimentError: One of the names on the way is a value.
    """
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise ExperimentError(f"--set {'.'.join(names)}: {name} is a value, not a table of settings")
    if names[-1] == PRESET:
        # What a file says of other settings was meant for those, and need not go with these.
        table.clear()
    table[names[-1]] = value


def as_table(settings: Any) -> dict[str, Any]:
    """Return settings as nested plain tables, as JSON and TOML have them; None stays None."""
    table: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if is_dataclass(value):
            table[field.name] = as_table(value)
        else:
            table[field.name] = list(value) if isinstance(value, tuple) else value
    return table


def to_toml(table: Mapping[str, Any], path: str = "") -> str:
    """Write nested tables of numbers, text, truth values, lists and None as TOML."""
    lines = [f"{name} = {_toml_value(v)}" for name, v in table.items() if not isinstance(v, Mapping)]
    parts = ["\n".join([f"[{path}]", *lines] if path and lines else lines)]
    for name, value in table.items():
        if isinstance(value, Mapping):
            parts.append(to_toml(value, f"{path}.{name}" if path else name))
    return "\n\n".join(part.rstrip("\n") for part in parts if part) + "\n"


def _toml_value(value: Any) -> str:
    if value is None:
        return f'"{NONE}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml_value(part) for part in value)}]"
    # A JSON string, number or truth value is a TOML one too, except for numbers without an end.
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, float) else repr(value)


def changed_names(settings: Any, default: Any, path: str = "") -> dict[str, Any]:
    """Return the settings that differ from another of the same kind, by dotted name."""
    changed: dict[str, Any] = {}
    for field in fields(settings):
        dotted = f"{path}.{field.name}" if path else field.name
        here, there = getattr(settings, field.name), getattr(default, field.name, MISSING)
        if is_dataclass(here) and is_dataclass(there):
            changed |= changed_names(here, there, dotted)
        elif here != there:
            changed[dotted] = here
    return changed
