"""`pipelines experiments` and `pipelines doctor`: what there is, and whether it works."""

import json
from pathlib import Path

import typer

from pipelines.cli.terminal import PROBLEM, JsonOption, reported


def experiments(as_json: JsonOption = False) -> None:
    """List the experiments that come with spikeline.

    Each is a TOML file to run by name, or to copy and change.

    Example:

      pipelines run classify nmnist --data path/to/N-MNIST
    """
    with reported():
        import tomllib

        folder = Path(__file__).parents[1] / "experiments"
        paths = {"classify": sorted(folder.glob("*.toml"))}
        paths |= {command: sorted(folder.glob(f"{command}/*.toml")) for command in ("convert", "detect")}
        found = [
            {
                "name": path.stem,
                "description": tomllib.loads(path.read_text(encoding="utf-8"))["description"],
                "file": str(path),
                "run": command,
            }
            for command, of_command in paths.items()
            for path in of_command
        ]
        if as_json:
            print(json.dumps(found))
            return
        width = max(len(entry["name"]) for entry in found)
        for command in paths:
            print(f"pipelines run {command}:")
            for entry in found:
                if entry["run"] == command:
                    print(f"  {entry['name']:{width}}  {entry['description']}")
        print(f"\nfiles: {folder}")


def doctor(as_json: JsonOption = False) -> None:
    """Check that this installation can do its work, and say what to do where it cannot.

    Looks at Python, package versions, torch and CUDA, whether another distribution has taken one of the
    names events, snn, pipelines, disk space, cores, Numba, CuPy, and what would compute each kind of
    neuron here, with the reason where it is not the fastest. Exit code 1 where there is a problem.

    Example:

      pipelines doctor --json
    """
    with reported():
        from pipelines.doctor import examine

        findings = examine()
        if as_json:
            print(json.dumps([finding.as_dict() for finding in findings]))
        else:
            for finding in findings:
                print(finding.line())
        if any(finding.state == "problem" for finding in findings):
            raise typer.Exit(PROBLEM)
