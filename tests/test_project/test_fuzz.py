"""Damaged recordings for every reader: the same ones every time; see benchmarks/fuzz for more of them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_bytes_break_a_reader(tmp_path):
    arguments = ["--inputs", "1500", "--seed", "20", "--seconds", "500", "--keep", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fuzz.run", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert done.stdout.startswith("1500 inputs sound, ")
