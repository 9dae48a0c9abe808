"""The commands in the README and the docs do what they say: every block is run, page by page."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# A block is not run where the line above it says `<!-- not run: reason -->`.
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = BLOCK.finditer(text)
    return [Block(m[2], m[3], text[: m.start()].count("\n") + 1) for m in found if not m[1]]


def run(block: Block, folder: Path) -> subprocess.CompletedProcess[str]:
    program = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "100"}
    return subprocess.run(
        [*program, block.text], cwd=folder, env=environment, text=True, capture_output=True, timeout=600
    )


@pytest.mark.parametrize("page", [p for p in PAGES if blocks_of(p)], ids=lambda page: page.name)
def test_every_block_runs(page, tmp_path):
    for block in blocks_of(page):
        result = run(block, tmp_path)
        where = f"{page.name}, line {block.line}: exit {result.returncode}"
        assert result.returncode == 0, (
            f"{where}\n{block.text}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        )


def test_the_readme_has_blocks_that_are_run():
    assert len(blocks_of(ROOT / "README.md")) >= 2


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "decisions").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
