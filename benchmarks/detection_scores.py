"""How long detections take to score, beside pycocotools and what else computes COCO's average precision.

    python benchmarks/detection_scores.py [--peers PEER_ENVIRONMENT/lib/python3.11/site-packages] [--rounds 2]

10,000 frames, 50,000 true boxes and 500,000 detections of two classes, scores rounded so that many are
equal. Every contestant starts in a process of its own, with the boxes as NumPy columns in memory, and is
timed from there to its curves: the lists of dictionaries that most of them want are part of it, and given
apart. Then the curves [10, 101, K, 4] are compared with those of pycocotools. Memory is the peak of the
process above what it had with the columns in memory. Processor time tells how many threads were at work.

`ours` is `evaluate_detections`: filters, times, the truth against itself, curves, confusion. `hotcoco` is
the same library without what is around it.

Claim: ours takes no more than a tenth of pycocotools' time.
The peers (`pip install faster-coco-eval ultrafast-pycocotools`) are left out where they are not there.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from snn.metrics.detection.coco import FrameBoxes, coco_curves
from snn.metrics.detection.columns import BoxColumns
from snn.metrics.detection.evaluate import evaluate_detections

FRAMES, BOXES, COPIES, CLASSES = 10_000, 50_000, 10, 2
CONTESTANTS = ("pycocotools", "faster_coco_eval", "ultrafast_pycocotools", "hotcoco", "ours")


def make_boxes(seed: int = 0) -> tuple[BoxColumns, BoxColumns]:
    """Return true boxes, and detections: around each three, less and less exact, the others anywhere."""
    rng = np.random.default_rng(seed)
    frame = np.sort(rng.integers(0, FRAMES, BOXES))
    corner, size = rng.uniform(0, [250, 190], (BOXES, 2)), rng.uniform(10, 110, (BOXES, 2))
    xyxy = np.concatenate([corner, corner + size], axis=1)
    class_id = rng.integers(0, CLASSES, BOXES)
    row = np.repeat(np.arange(BOXES), COPIES)
    copy = np.tile(np.arange(COPIES), BOXES)
    near = xyxy[row] + rng.normal(0, 2 + 4 * copy[:, None], (len(row), 4))
    anywhere = rng.uniform(0, [250, 190], (len(row), 2))
    free = np.concatenate([anywhere, anywhere + rng.uniform(5, 110, (len(row), 2))], axis=1)
    found = np.where(copy[:, None] < 3, near, free)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    score = np.round(np.clip(rng.beta(2, 5, len(row)) + 0.4 * (copy < 3), 0, 1), 2)
    order = np.argsort(frame[row], kind="stable")
    truth = BoxColumns(np.zeros(BOXES), 1_000_000 * (frame + 1), xyxy, class_id)
    columns = np.zeros(len(row)), 1_000_000 * (frame[row] + 1), found, class_id[row], score
    return truth, BoxColumns(*columns).take(order)


def dictionaries(boxes: BoxColumns) -> list[dict[str, Any]]:
    xywh = np.concatenate([boxes.xyxy[:, :2].astype(np.float64), boxes.sides()], axis=1).tolist()
    images, classes = (boxes.t // 1_000_000).tolist(), (boxes.class_id + 1).tolist()
    return [
        {"id": n + 1, "image_id": images[n], "category_id": classes[n], "bbox": xywh[n], "score": score}
        | {"area": xywh[n][2] * xywh[n][3], "iscrowd": 0}
        for n, score in enumerate(boxes.score.astype(np.float64).tolist())
    ]


def like_pycocotools(name: str, truth: BoxColumns, found: BoxColumns) -> tuple[np.ndarray, float]:
    """Return the precision and the seconds that lists of dictionaries took."""
    package = importlib.import_module(name)
    if name == "pycocotools":
        coco = importlib.import_module("pycocotools.coco").COCO
        evaluation = importlib.import_module("pycocotools.cocoeval").COCOeval
    else:
        coco, evaluation = package.COCO, getattr(package, "COCOeval_faster", None) or package.COCOeval
    began = time.perf_counter()
    images = [{"id": n + 1, "width": 304, "height": 240} for n in range(FRAMES)]
    categories = [{"id": k + 1, "name": str(k)} for k in range(CLASSES)]
    dataset = {"info": {}, "images": images, "categories": categories, "annotations": dictionaries(truth)}
    rows = dictionaries(found)
    prepared = time.perf_counter() - began
    with contextlib.redirect_stdout(io.StringIO()):
        there = coco()
        there.dataset = dataset
        there.createIndex()
        evaluator = evaluation(there, there.loadRes(rows), iouType="bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"])[..., -1], prepared


def run(name: str, out: Path) -> dict[str, float]:
    """Run one contestant; write its precision [10, 101, K, 4] and return what it took."""
    truth, found = make_boxes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, processor, prepared = time.perf_counter(), time.process_time(), 0.0
    if name == "ours":
        names = [str(k) for k in range(CLASSES)]
        evaluate_detections(truth, found, "unfiltered", class_names=names, sensor_hw=(240, 304))
        precision = np.zeros(0)
    elif name == "hotcoco":
        columns = (FrameBoxes(boxes.t // 1_000_000 - 1, boxes) for boxes in (truth, found))
        precision = coco_curves(*columns, frames=FRAMES, classes=CLASSES).precision
    else:
        precision, prepared = like_pycocotools(name, truth, found)
    took = time.perf_counter() - began
    np.save(out, np.where(precision < 0, np.nan, precision))
    return {
        "seconds": took,
        "dictionaries": prepared,
        "processor": time.process_time() - processor,
        "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def there(name: str) -> bool:
    return name in ("ours", "hotcoco") or importlib.util.find_spec(name) is not None


def main() -> None:
    """Run all contestants in turn, round by round, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peers", help="site-packages of the environment that has the peers")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--run", help="one contestant, in this process")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    sys.path.extend([arguments.peers] if arguments.peers else [])
    if arguments.run:
        print(json.dumps(run(arguments.run, arguments.out)))
        return
    names = [name for name in CONTESTANTS if there(name)]
    took: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    peers = ["--peers", arguments.peers] if arguments.peers else []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            for name in names:
                command = [sys.executable, __file__, *peers, "--run", name, "--out", f"{folder}/{name}.npy"]
                printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
                took[name].append(json.loads(printed.splitlines()[-1]))
                print(f"{name}: {took[name][-1]['seconds']:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
        precision = {name: np.load(f"{folder}/{name}.npy") for name in names if name != "ours"}
    print("\n| | total, s | of it dictionaries | processor, s | memory, MiB | to pycocotools | differs by |")
    print("|---|---|---|---|---|---|---|")
    for name in names:
        middle = {key: statistics.median(one[key] for one in took[name]) for key in took[name][0]}
        ratio = statistics.median(
            one["seconds"] / base["seconds"]
            for one, base in zip(took[name], took["pycocotools"], strict=True)
        )
        off = "" if name == "ours" else f"{np.nanmax(abs(precision[name] - precision['pycocotools'])):.1g}"
        cells = [f"{middle[key]:.1f}" for key in ("seconds", "dictionaries", "processor")]
        print(f"| {name} | {' | '.join(cells)} | {middle['mib']:.0f} | 1/{1 / ratio:.1f} | {off} |")


if __name__ == "__main__":
    main()
