"""The front door: what must make `make test` fail does, and what it promises to install is pinned."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
LESSON = """---
jupytext:
  formats: ipynb,md:myst
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---

# 一节课

文字。

```{code-cell} ipython3
print(1 + 1)
```
"""


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path):
    """A project of one lesson with the real tools."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    for language in ("zh", "en"):
        (tmp_path / "notebooks" / language).mkdir(parents=True)
        (tmp_path / "notebooks" / language / "01_x.md").write_text(LESSON, encoding="utf-8")
    assert notebooks(tmp_path, "run").returncode == 0
    assert notebooks(tmp_path, "check").returncode == 0
    return tmp_path


def notebooks(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, "tools/notebooks.py", *command, cwd=root)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("zh/01_x.md", "文字。", "别的文字。", "text and notebook differ"),
        ("zh/01_x.md", "1 + 1", "1 + 2", "outputs belong to other code"),
        ("en/01_x.md", "1 + 1", "1 + 2", "code differs from the Chinese"),
        ("zh/01_x.ipynb", "1 + 1", "1 + 2", "text and notebook differ"),
        (
            "zh/01_x.md",
            "```{code-cell} ipython3",
            "```{code-cell} ipython3\n:tags: [no-stored-output]",
            "has an output",
        ),
    ],
)
def test_a_stale_pair_fails(copy, file, old, new, complaint):
    edit(copy / "notebooks" / file, old, new)
    if complaint == "has an output":
        notebooks(copy, "sync")
    result = notebooks(copy, "check")
    assert result.returncode != 0
    assert complaint in result.stdout


def test_sync_mends_text_and_keeps_outputs_and_run_mends_code(copy):
    edit(copy / "notebooks" / "zh" / "01_x.md", "文字。", "别的文字。")
    assert notebooks(copy, "sync").returncode == 0
    assert notebooks(copy, "check").returncode == 0
    assert '"2\\n"' in (copy / "notebooks" / "en" / "01_x.ipynb").read_text()
    for language in ("zh", "en"):
        edit(copy / "notebooks" / language / "01_x.md", "1 + 1", "1 + 2")
    assert notebooks(copy, "run").returncode == 0
    assert notebooks(copy, "check").returncode == 0
    assert '"3\\n"' in (copy / "notebooks" / "en" / "01_x.ipynb").read_text()


@pytest.mark.parametrize(
    ("code", "passes"), [("1 + 1", True), ("1 / 0", False), ("# NBVAL_CHECK_OUTPUT\nprint(3)", False)]
)
def test_a_notebook_that_raises_or_prints_something_else_fails(tmp_path, code, passes):
    import nbformat

    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell(code, execution_count=1, outputs=[nbformat.v4.new_output("stream", text="2\n")])
        ],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, tmp_path / "x.ipynb")
    result = run(sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", ".", cwd=tmp_path)
    assert (result.returncode == 0) is passes, result.stdout
    assert re.search(r"\d (passed|failed)", result.stdout.splitlines()[-1])


def test_a_sphinx_warning_fails_the_book(tmp_path):
    """The real configuration with one page, which refers to a page that does not exist."""
    shutil.copytree(ROOT / "book", tmp_path / "book")
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    for name in ("_config.yml", "_toc.en.yml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.rmtree(tmp_path / "book" / "zh")
    (tmp_path / "book" / "zh").mkdir()
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/zh/index\n")
    page = tmp_path / "book" / "zh" / "index.md"
    page.write_text("# 标题\n\n文字。\n", encoding="utf-8")
    good = run(sys.executable, "tools/build_site.py", cwd=tmp_path)
    assert good.returncode == 0, good.stdout + good.stderr
    page.write_text("# 标题\n\n见 {doc}`absent`。\n", encoding="utf-8")
    bad = run(sys.executable, "tools/build_site.py", cwd=tmp_path)
    assert bad.returncode != 0
    assert "absent" in bad.stdout + bad.stderr


def test_ci_runs_the_readmes_command_and_stops_at_the_first_failure():
    script = (ROOT / ".ci" / "run").read_text()
    assert "set -euo pipefail" in script
    assert script.rstrip().endswith("make test")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    makefile = (ROOT / "Makefile").read_text()
    assert ".SHELLFLAGS := -euo pipefail -c" in makefile
    assert re.search(r"^test:.*\n\t.* lint sync-check book pytest nbval$", makefile, re.M)


def test_make_help_lists_every_target():
    listed = {line.split()[0] for line in run("make", "help", cwd=ROOT).stdout.splitlines()}
    assert {"book", "test", "lab", "notebooks", "sync", "sync-check", "serve", "clean"} <= listed


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_installed_package_is_pinned_at_its_version():
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+]+)", (ROOT / "constraints.txt").read_text(), re.M))
    pins = {canonical(k): v for k, v in pins.items()}
    assert pins["torch"] == "2.14.1"
    assert pins["torchvision"] == "0.29.1"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    ours = canonical(project["project"]["name"])
    installed = {canonical(d.name): d.version for d in metadata.distributions()}
    # authoring tools may be installed beside the course's own: what must agree is what make installs
    wrong = {k: (v, pins.get(k)) for k, v in installed.items() if k in pins and pins[k] != v.split("+")[0]}
    assert wrong == {}
    needed = [*project["project"]["dependencies"], *project["dependency-groups"]["book"]]
    needed += [d for extra in project["project"]["optional-dependencies"].values() for d in extra]
    unpinned = [n for n in needed if canonical(re.match(r"[\w.-]+", n).group()) not in pins]
    assert unpinned == []
    if os.environ.get("CI"):  # a fresh environment: nothing else may have come along
        assert sorted(set(installed) - set(pins) - {ours}) == []


def test_conda_users_get_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    pip = next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))
    assert pip[0] == "--constraint constraints.txt"


def test_no_machine_paths_or_registry_hosts_in_tracked_files():
    files = run("git", "ls-files", "-z", cwd=ROOT).stdout.split("\0")
    pattern = re.compile(rb"/(?:work|root|farm)/|/home/[a-z]|(?:pypi|npmjs)\.org/|files\.python" + rb"hosted")
    found = [f for f in files if f and not f.startswith("tests/") and pattern.search((ROOT / f).read_bytes())]
    assert found == []
