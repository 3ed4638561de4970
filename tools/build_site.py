"""Build the site into ``_build/html``: the Chinese edition, and below it the English one if it has a root page.

Always from a clean state: a second build does not repeat the warnings of unchanged pages, and would pass with
them. Rendering executes nothing and needs no torch.

Run as ``.venv/bin/python tools/build_site.py``. The exit code is not 0 if any warning or error came up.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
ENGLISH = BUILD / "en"  # where the English edition is built before it moves to _build/html/en


def clean() -> None:
    """Remove what earlier builds left. Other files below ``_build`` stay."""
    for folder in (HTML, BUILD / ".doctrees", BUILD / "jupyter_execute", ENGLISH):
        shutil.rmtree(folder, ignore_errors=True)


def build(*options: str) -> bool:
    """Run Jupyter Book with warnings as errors.

    Parameters
    ----------
    *options : str
        Further options of ``jupyter-book build``.

    Returns
    -------
    bool
        Whether the edition was built without a warning.
    """
    code = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", code, "build", str(ROOT), "-W", "--keep-going", *options]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def has_english_edition() -> bool:
    """Whether the root page that ``_toc.en.yml`` names exists."""
    toc = yaml.safe_load((ROOT / "_toc.en.yml").read_text(encoding="utf-8"))
    return any((ROOT / f"{toc['root']}{suffix}").is_file() for suffix in (".md", ".ipynb"))


def main() -> int:
    """Build both editions and say how long it took.

    Returns
    -------
    int
        0 if all went well, otherwise 1.
    """
    start = time.perf_counter()
    clean()
    failed = [] if build() else ["Chinese"]
    if has_english_edition():
        english = ("--config", str(ROOT / "_config.en.yml"), "--toc", str(ROOT / "_toc.en.yml"))
        if build(*english, "--path-output", str(ENGLISH)):
            shutil.copytree(ENGLISH / "_build" / "html", HTML / "en")
        else:
            failed.append("English")
    else:
        print("English edition: no root page yet, not built")
    seconds = time.perf_counter() - start
    if failed:
        print(f"site: the {' and '.join(failed)} edition FAILED after {seconds:.1f} s, see above", file=sys.stderr)
        return 1
    print(f"site: built in {seconds:.1f} s: {(HTML / 'index.html').relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
