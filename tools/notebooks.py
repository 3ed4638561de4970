"""Keep the notebooks in step: text and notebook, Chinese and English, code and stored outputs.

    python tools/notebooks.py run [--all]   run the notebooks whose code changed, store their outputs
    python tools/notebooks.py sync          bring each .ipynb up to date with its .md, keeping outputs
    python tools/notebooks.py check         fail on any difference

The .md file is what people edit. The English notebook has the same code as the Chinese one, and so takes its
outputs from there. Outputs of cells tagged ``no-stored-output`` (photographs that may not be passed on) and
everything written to stderr (progress bars) are never stored.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
CHINESE, ENGLISH = ROOT / "notebooks" / "zh", ROOT / "notebooks" / "en"
TIMES = ROOT / "benchmarks" / "results" / "notebook_times.json"
NOT_STORED = "no-stored-output"


def texts(folder: Path) -> list[Path]:
    """The .md sources of a language, in order; none where the edition does not exist yet."""
    return sorted(folder.glob("**/*.md"))


def code_of(notebook: NotebookNode) -> list[str]:
    """Sources of the code cells."""
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def hash_of(notebook: NotebookNode) -> str:
    """Hash of all code: the outputs of a notebook belong to one such hash."""
    return hashlib.sha256("\0".join(code_of(notebook)).encode()).hexdigest()


def cells_for_comparison(notebook: NotebookNode) -> list[tuple[str, str, dict]]:
    """What a pair must agree on: kind, source and metadata of each cell."""
    return [(c.cell_type, c.source, json.loads(json.dumps(c.metadata))) for c in notebook.cells]


def fresh(text: Path) -> NotebookNode:
    """The notebook that a .md file describes, with stable cell ids and without outputs."""
    notebook = jupytext.read(text)
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:03d}"  # stable, so that a re-run changes nothing but outputs
    return notebook


def stored(text: Path) -> NotebookNode | None:
    """The .ipynb beside a .md file, if there is one."""
    path = text.with_suffix(".ipynb")
    return nbformat.read(path, as_version=4) if path.exists() else None


def with_outputs(notebook: NotebookNode, source: NotebookNode) -> NotebookNode:
    """Give a notebook the outputs of another one that has the same code."""
    taken = [c for c in source.cells if c.cell_type == "code"]
    own = [c for c in notebook.cells if c.cell_type == "code"]
    for cell, other in zip(own, taken, strict=True):
        cell.outputs, cell.execution_count = other.outputs, other.execution_count
    notebook.metadata["course"] = source.metadata["course"]
    return notebook


def save(notebook: NotebookNode, text: Path) -> None:
    """Write the .ipynb of a .md file."""
    nbformat.validate(notebook)
    nbformat.write(notebook, text.with_suffix(".ipynb"))


def execute(text: Path) -> NotebookNode:
    """Run a notebook from a clean kernel, in its own folder, and clean up what it printed."""
    from nbclient import NotebookClient  # only `run` needs a kernel

    notebook = fresh(text)
    client = NotebookClient(
        notebook, timeout=3600, resources={"metadata": {"path": str(text.parent)}}, record_timing=False
    )
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept = [] if NOT_STORED in cell.metadata.get("tags", []) else cell.outputs
        cell.outputs = [o for o in kept if o.get("name") != "stderr"]
        for output in cell.outputs:
            if any("widget" in kind for kind in output.get("data", {})):
                raise SystemExit(f"{text}: a widget in an output; use plain tqdm")
    notebook.metadata["course"] = {"outputs_of_code": hash_of(notebook)}
    note_time(text, seconds)
    return notebook


def note_time(text: Path, seconds: float) -> None:
    """Record how long a notebook took, for the page that states it."""
    times = json.loads(TIMES.read_text()) if TIMES.exists() else {"command": "make notebooks ALL=1", "seconds": {}}
    times["hardware"] = f"{os.cpu_count()} CPU cores, no GPU used by the quick profile"
    times["seconds"][text.stem] = round(seconds, 1)
    times["seconds"] = dict(sorted(times["seconds"].items()))
    TIMES.parent.mkdir(parents=True, exist_ok=True)
    TIMES.write_text(json.dumps(times, indent=2) + "\n")


def run(everything: bool) -> int:
    """Run what changed and store it; then bring both languages up to date."""
    for text in texts(CHINESE):
        old = stored(text)
        if not everything and old and old.metadata.get("course", {}).get("outputs_of_code") == hash_of(fresh(text)):
            continue
        print(f"running {text.relative_to(ROOT)} ...", flush=True)
        save(execute(text), text)
    return sync()


def sync() -> int:
    """Rewrite each .ipynb from its .md, with the outputs it had, or the Chinese notebook's for an English one."""
    status = 0
    for text in texts(CHINESE) + texts(ENGLISH):
        notebook = fresh(text)
        twin = CHINESE / text.relative_to(ENGLISH) if text.is_relative_to(ENGLISH) else text
        source = stored(twin)
        if source is not None and source.metadata.get("course", {}).get("outputs_of_code") == hash_of(notebook):
            save(with_outputs(notebook, source), text)
        else:
            print(f"{text.relative_to(ROOT)}: its code has no stored outputs yet; make notebooks runs it")
            status = 1
    return status


def check() -> int:
    """Report every difference; 0 if there is none."""
    problems = []
    for text in texts(CHINESE) + texts(ENGLISH):
        name, notebook, pair = text.relative_to(ROOT), fresh(text), stored(text)
        if pair is None:
            problems.append(f"{name}: no .ipynb beside it; run make sync")
            continue
        if cells_for_comparison(notebook) != cells_for_comparison(pair):
            problems.append(f"{name}: text and notebook differ; run make sync")
        if pair.metadata.get("course", {}).get("outputs_of_code") != hash_of(notebook):
            problems.append(f"{name}: the stored outputs belong to other code; run make notebooks")
        for cell in pair.cells:
            if cell.cell_type == "code" and cell.outputs and NOT_STORED in cell.metadata.get("tags", []):
                problems.append(f"{name}: {cell.id} is tagged {NOT_STORED} but has an output; run make notebooks")
        if text.is_relative_to(ENGLISH):
            twin = CHINESE / text.relative_to(ENGLISH)
            if not twin.exists() or code_of(fresh(twin)) != code_of(notebook):
                problems.append(f"{name}: its code differs from the Chinese notebook's")
    for notebook in [*CHINESE.glob("**/*.ipynb"), *ENGLISH.glob("**/*.ipynb")]:
        if ".ipynb_checkpoints" not in notebook.parts and not notebook.with_suffix(".md").exists():
            problems.append(f"{notebook.relative_to(ROOT)}: no .md beside it")
    print("\n".join(problems) or "notebooks, texts, languages and stored outputs agree")
    return int(bool(problems))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "sync", "check"])
    parser.add_argument("--all", action="store_true", help="run: every notebook, changed or not")
    arguments = parser.parse_args()
    return {"run": lambda: run(arguments.all), "sync": sync, "check": check}[arguments.command]()


if __name__ == "__main__":
    sys.exit(main())
