"""The best network of a detection run, ready to look at recordings."""

from pathlib import Path

from pipelines.detect_folder import load_best_detector, read_detection
from pipelines.errors import RunError
from pipelines.run_folder import RunFolder
from pipelines.stream.detector import StreamNetwork


def load_network(run: Path) -> StreamNetwork:
    """Return the detector of a run's best epoch; the store it was trained on is not needed.

    Raises:
        RunError: It is no run of `pipelines run detect`.
        SnnError: Its checkpoint is absent or of another network.
    """
    folder = RunFolder(run)
    if not folder.settings_json.exists():
        raise RunError(f"{run}: no run here; name a folder made by `pipelines run detect`")
    if folder.kind != "detect":
        raise RunError(
            f"{run}: a run of `pipelines run {folder.kind}`, which finds no boxes; name one of "
            "`pipelines run detect`"
        )
    experiment = read_detection(run)
    detector, _ = load_best_detector(folder)
    about = folder.read_about()
    height, width = about["frames"]["sensor_hw"]
    return StreamNetwork(
        detector=detector,
        binning=experiment.data.binning,
        class_names=tuple(about["class_names"]),
        sensor_hw=(height, width),
        name=str(run),
        operating_score=experiment.evaluation.operating_score,
    )
