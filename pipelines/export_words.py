"""What an export says when it is done."""

from typing import Any

# A report on single layers says no more than so many.
MOST_LAYERS = 8


def say_export(said: dict[str, Any]) -> str:
    """Return what was exported, and how it compares, as a few lines."""
    lines = [f"written   {said['file']} ({said['bytes']:,} bytes)"]
    if "nodes" in said:
        return f"{lines[0]}\nNIR       {said['nodes']} nodes"
    if said.get("quantised_here"):
        lines.append(f"few bits  only now, not trained so: {', '.join(said['quantised_here'])}")
    lines += _say_range(said["layers"])
    if "check" in said:
        lines += _say_check(said["check"])
    return "\n".join(lines)


def _say_range(layers: list[dict[str, Any]]) -> list[str]:
    """Return lines on numbers that the fixed point could not hold."""
    words = {
        "saturated_scales": "scales beyond the range, now its end",
        "saturated_biases": "biases beyond the range, now its end",
        "lost_scales": "scales too small, now 0",
    }
    lines = []
    for name, meaning in words.items():
        found = {layer["name"]: layer["numbers"].get(name, 0) for layer in layers}
        found = {layer: count for layer, count in found.items() if count}
        if found:
            named = ", ".join(f"{layer} {count}" for layer, count in list(found.items())[:MOST_LAYERS])
            more = f" and {len(found) - MOST_LAYERS} more layers" if len(found) > MOST_LAYERS else ""
            lines.append(f"warning   {sum(found.values())} {meaning}: {named}{more}")
    return lines


def _say_check(check: dict[str, Any]) -> list[str]:
    """Return a line for each layer of neurons, and one for the decisions."""
    width = max(len(name) for name in check["layers"])
    lines = [f"compared  {check['samples']} test samples with the network in torch", ""]
    lines.append(f"{'layer':{width}}  {'values':>13}  {'spikes':>12}  {'differ':>10}")
    for name, layer in check["layers"].items():
        counts = f"{layer['values']:13,}  {layer['spikes']:12,}  {layer['differ']:10,}"
        lines.append(f"{name:{width}}  {counts}")
    n, differ = check["samples"], check["spikes_that_differ"]
    same = "every spike is the same" if differ == 0 else f"{differ:,} spikes differ"
    lines += ["", f"{same}; {check['decisions_that_differ']} of {n} samples are classified otherwise"]
    if check["right"] is not None:
        ours, theirs = 100 * check["right"] / n, 100 * check["right_torch"] / n
        lines.append(f"accuracy  {ours:.2f} % in whole numbers, {theirs:.2f} % in torch")
    return lines
