"""What every notebook of the course keeps to, in text, code and stored outputs."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/[0-9][0-9]_*.ipynb"))
RESULTS = ROOT / "benchmarks" / "results"
LIMITS = {"06_crystal_classification": 90}  # seconds on two cores; every other lesson has 60


def by_name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


lessons = pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)


@cache
def load(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list:
    return [c for c in load(path).cells if c.cell_type == "code"]


def prose(path: Path) -> str:
    """Text cells and captions, without code, formulas, links and directives' own syntax."""
    parts = [c.source for c in load(path).cells if c.cell_type == "markdown"]
    for cell in code_cells(path):
        parts.append(cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", ""))
    text = "\n\n".join(parts)
    text = re.sub(r"```.*?```|\$\$.*?\$\$", " ", text, flags=re.S)
    return re.sub(r"CC BY \d\.\d|`[^`\n]*`|\$[^$\n]*\$|\]\([^)]*\)|https?://\S+", " ", text)


def printed(path: Path) -> str:
    """Everything the stored outputs say in text."""
    parts = []
    for cell in code_cells(path):
        for output in cell.outputs:
            parts.append(output.get("text", ""))
            parts += [v for k, v in output.get("data", {}).items() if k in ("text/plain", "text/html", "text/markdown")]
    return "\n".join(parts)


def numbers_without_source(text: str, shown: str, code: str) -> list[str]:
    """Decimals and percentages of the prose that neither an output, nor a citing line, nor the code has."""
    missing = []
    for line in text.splitlines():
        if "{cite" in line:
            continue
        for match in re.finditer(r"(?<![\w.])(\d+\.\d+|\d+(?=\s*[%％]))(\s*[%％])?", line):
            number, percent = match.groups()
            token = rf"(?<![\d.]){re.escape(number)}(?!\.?\d)"
            # a setting such as a dropout rate of 0.5 is shown by the code; a percentage is always a result
            if not re.search(token, shown) and (percent or not re.search(token, code)):
                missing.append(match.group().strip())
    return missing


def test_there_are_notebooks():
    assert NOTEBOOKS


@lessons
def test_set_up_is_short_and_sets_the_seed(path):
    first = code_cells(path)[0].source
    assert len([line for line in first.splitlines() if line.strip()]) <= 5, "set-up of more than five lines"
    assert re.search(r"manual_seed\(|default_rng\(", first), "the first code cell sets no seed"


@lessons
def test_every_figure_has_caption_and_alternative_text(path):
    names = []
    for cell in code_cells(path):
        figures = [o for o in cell.outputs if any(k.startswith("image/") for k in o.get("data", {}))]
        assert len(figures) <= 1, f"{cell.id}: one figure a cell"
        if figures:
            meta = cell.metadata.get("mystnb", {})
            assert len(meta.get("figure", {}).get("caption", "")) > 10, f"{cell.id}: a figure without caption"
            assert len(meta.get("image", {}).get("alt", "")) > 10, f"{cell.id}: a figure without alternative text"
            names.append(meta["figure"].get("name"))
    assert None not in names
    assert len(set(names)) == len(names)


@lessons
def test_stored_outputs_are_clean(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            assert output.output_type != "error", f"{cell.id}: a stored error"
            assert output.get("name") != "stderr", f"{cell.id}: stored stderr"
            assert not any("widget" in k for k in output.get("data", {})), f"{cell.id}: a stored widget"
            plain = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
            assert not re.search(r"/(home|root|tmp|work|Users)/", plain), f"{cell.id}: a path of somebody's machine"


@lessons
def test_cells_that_read_photographs_to_show_them_store_nothing(path):
    """CIFAR-10 images may not be passed on: a cell that draws images of the data folder is tagged."""
    for cell in code_cells(path):
        shows = re.search(r"plotting\.images|imshow", cell.source)
        if shows and re.search(r"data\.folder|photos\[|pictures\[", cell.source):
            assert "no-stored-output" in cell.metadata.get("tags", []), f"{cell.id}: tag it no-stored-output"
        if "no-stored-output" in cell.metadata.get("tags", []):
            assert cell.outputs == [], f"{cell.id}: a stored photograph"


@lessons
def test_opening_and_close(path):
    text = "\n".join(c.source for c in load(path).cells if c.cell_type == "markdown")
    wanted = {
        "zh": ("本节你将学到", "## 小结", "## 思考题"),
        "en": ("you will learn", "## Summary", "## Questions"),
    }[path.parent.name]
    assert not re.search(r"@[A-Z]+@|TODO|FIXME", text), "a marker was left in the text"
    for phrase in wanted:
        assert phrase in text, f"{path.name} has no {phrase!r}"


@lessons
def test_stated_time_is_the_recorded_one_and_within_budget(path):
    text = "\n".join(c.source for c in load(path).cells if c.cell_type == "markdown")
    stated = re.search(r"在两个 CPU 核上运行约 (\d+) 秒|about (\d+) seconds on two CPU cores", text)
    assert stated, "no running time stated"
    seconds = int(stated.group(1) or stated.group(2))
    recorded = json.loads((RESULTS / "notebook_times.json").read_text())["seconds"][path.stem]
    assert abs(seconds - recorded) <= max(5, 0.2 * recorded), f"stated {seconds} s, recorded {recorded} s"
    assert recorded <= LIMITS.get(path.stem, 60)


@lessons
def test_numbers_in_prose_come_from_somewhere(path):
    recorded = "\n".join(p.read_text() for p in RESULTS.glob("*.json"))
    code = "\n".join(c.source for c in code_cells(path))
    assert numbers_without_source(prose(path), printed(path) + "\n" + recorded, code) == []


def test_the_number_test_can_fail():
    shown, code = "accuracy 0.713\n73.2% +- 0.3", "Dropout(0.5)"
    for text, missing in [
        ("准确率是 0.713，微调 73.2%。", []),
        ("准确率是 0.714。", ["0.714"]),
        ("只有 13.2%。", ["13.2%"]),
        ("大约 73 %。", ["73 %"]),
        ("Dropout 取 0.5。", []),
        ("比例是 0.5%。", ["0.5%"]),
        ("文献给出 91.5% {cite}`he2016`。", []),
        ("第 2 节有 3 个种子，CIFAR-10。", []),
    ]:
        assert numbers_without_source(text, shown, code) == missing


@lessons
def test_checked_cells_print_nothing_that_depends_on_the_data(path):
    """nbval compares these outputs on every machine, with CIFAR-10 or with the digits that stand in."""
    for cell in code_cells(path):
        if cell.source.startswith("# NBVAL_CHECK_OUTPUT"):
            assert cell.outputs, f"{cell.id}: nothing to compare"
            text = "".join(o.get("text", "") for o in cell.outputs)
            assert not re.search(r"CIFAR-10 \(|seconds| s$", text), f"{cell.id}: depends on data or time"
