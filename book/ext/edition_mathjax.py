"""MathJax without a network: the few files that the site needs, from the wheel ``sphinx-mathjax-offline``.

As an extension that package copies 24 MB into each edition. One script and its fonts (1.7 MB) are enough,
once for both editions.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

SCRIPT = "mathjax/tex-chtml-full.js"
FONTS = "mathjax/output/chtml/fonts/woff-v2"


def mathjax_path(edition: str) -> str:
    """Address of the script as Sphinx wants it: relative to the edition's ``_static``.

    Parameters
    ----------
    edition : str
        ``"zh"``, which holds the files, or ``"en"``, which lies one folder below and uses the same ones.
    """
    return SCRIPT if edition == "zh" else f"../../_static/{SCRIPT}"


def package_static() -> Path:
    """Folder of the installed package that holds MathJax.

    Raises
    ------
    ExtensionError
        The package is not installed.
    """
    spec = importlib.util.find_spec("sphinx-mathjax-offline")  # a folder with hyphens: not importable by name
    if spec is None or spec.origin is None:
        raise ExtensionError("the formulas need MathJax: pip install sphinx-mathjax-offline")
    return Path(spec.origin).parent / "static"


def copy_mathjax(app: Sphinx, exception: Exception | None) -> None:
    """Copy the script and its fonts into the Chinese edition, which is the root of the site."""
    if exception is not None or app.builder.format != "html" or not app.config.language.startswith("zh"):
        return
    source, target = package_static(), Path(app.outdir) / "_static"
    (target / SCRIPT).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / SCRIPT, target / SCRIPT)
    shutil.copytree(source / FONTS, target / FONTS, dirs_exist_ok=True)
