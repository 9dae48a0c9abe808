"""Write the report of a finished run anew, whatever kind of run it is."""

from pathlib import Path

from pipelines.report.build import build_report
from pipelines.report.conversion import write_report
from pipelines.report.detection import build_detection_report
from pipelines.run_folder import RunFolder


def write_again(folder: RunFolder) -> Path:
    """Write a run's report.html, and return where it is.

    Raises:
        RunError: The folder is no run, or the run has not finished.
    """
    if folder.kind == "detect":
        return build_detection_report(folder)
    if folder.kind == "classify":
        return build_report(folder)
    write_report(folder, folder.read_results())
    return folder.report
