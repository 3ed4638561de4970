"""Sphinx extension of the course's site: two editions side by side, local mathematics, search, accessibility.

The Chinese edition is the root of the site; the English one stands below it in ``en/``. Which pages an
edition has is read from its table of contents and from the disk, so that a link to the other edition is
shown only where a page exists. The parts that need more than a few lines are in modules of their own:
``edition_search``, ``edition_mathjax``, ``edition_repairs`` and ``edition_stubs``.
"""

from __future__ import annotations

import html
import posixpath
from functools import cache
from pathlib import Path
from typing import Any

import edition_mathjax
import edition_repairs
import edition_stubs
import yaml
from docutils import nodes
from edition_search import SearchChineseBigrams
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.osutil import relative_uri

TOC_FILES = {"zh": "_toc.yml", "en": "_toc.en.yml"}
ROOTS = {"zh": "", "en": "en/"}  # folder of each edition below the site's root
HTML_LANGUAGES = {"zh": "zh-CN", "en": "en"}
SUFFIXES = (".md", ".ipynb", ".rst")
GENERATED_PAGES = ("search", "genindex")  # both editions have them, under the same name

# What the templates say. The theme's own catalogues leave half of it in English.
LABELS = {
    "zh": {
        "home": "首页",
        "navigation": "课程目录",
        "page_toc": "本页目录",
        "color_mode": "切换明暗主题",
        "search": "搜索",
        "language_switch": "语言",
    },
    "en": {
        "home": "Home",
        "navigation": "Course contents",
        "page_toc": "On this page",
        "color_mode": "Switch light and dark theme",
        "search": "Search",
        "language_switch": "Language",
    },
}
EDITION_NAMES = {"zh": "中文", "en": "English"}


def edition_of(language: str) -> str:
    """Short name of the edition that a Sphinx language belongs to.

    Parameters
    ----------
    language : str
        Sphinx's ``language``, for example ``zh_CN``.

    Returns
    -------
    str
        ``"zh"`` or ``"en"``.
    """
    return "zh" if language.startswith("zh") else "en"


def counterpart(page: str, edition: str) -> str:
    """Name of the same page in another edition.

    Parameters
    ----------
    page : str
        Page name without suffix, for example ``notebooks/zh/03_cifar10_transfer``.
    edition : str
        The edition that is asked for.

    Returns
    -------
    str
        For example ``notebooks/en/03_cifar10_transfer``. Generated pages keep their name.
    """
    return "/".join(edition if part in TOC_FILES else part for part in page.split("/"))


def toc_pages(toc: dict[str, Any]) -> list[str]:
    """List the page names in a Jupyter Book table of contents, the root first.

    Parameters
    ----------
    toc : dict
        The parsed ``_toc.yml``.

    Returns
    -------
    list of str
        Page names without suffix, in reading order.
    """
    pages = [toc["root"]] if "root" in toc else []
    for key in ("parts", "chapters", "sections", "entries", "subtrees"):
        for entry in toc.get(key, []):
            if "file" in entry:
                pages.append(entry["file"])
            pages += toc_pages(entry)
    return [posixpath.splitext(page)[0] if page.endswith(SUFFIXES) else page for page in pages]


@cache
def edition_pages(source: Path, edition: str) -> frozenset[str]:
    """Pages that an edition really has: listed in its table of contents, and there on the disk.

    Parameters
    ----------
    source : Path
        Root of the repository.
    edition : str
        ``"zh"`` or ``"en"``.

    Returns
    -------
    frozenset of str
        Empty when the edition has no root page, for then it is not built.
    """
    toc_file = source / TOC_FILES[edition]
    if not toc_file.is_file():
        return frozenset()
    toc = yaml.safe_load(toc_file.read_text(encoding="utf-8"))
    listed = toc_pages(toc)
    present = {page for page in listed if any((source / f"{page}{suffix}").is_file() for suffix in SUFFIXES)}
    return frozenset({*present, *GENERATED_PAGES}) if listed[0] in present else frozenset()


def add_edition_context(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Give the templates the labels and the address of the page in the other edition; write ``hreflang``."""
    here = edition_of(app.config.language)
    other = "en" if here == "zh" else "zh"
    context["labels"] = LABELS[here]
    context["other_edition"] = None
    target = counterpart(pagename, other)
    if target not in edition_pages(Path(app.srcdir), other):
        return
    address = relative_uri(f"{ROOTS[here]}{pagename}.html", f"{ROOTS[other]}{target}.html")
    context["other_edition"] = {
        "url": address,
        "name": EDITION_NAMES[other],
        "hreflang": HTML_LANGUAGES[other],
    }
    base = app.config.html_baseurl
    site = base.removesuffix("/").removesuffix("/en") + "/" if base else ""
    links = {
        here: f"{site}{ROOTS[here]}{pagename}.html" if site else f"{posixpath.basename(pagename)}.html",
        other: f"{site}{ROOTS[other]}{target}.html" if site else address,
    }
    context["metatags"] = context.get("metatags", "") + "".join(
        f'\n<link rel="alternate" hreflang="{HTML_LANGUAGES[e]}" href="{html.escape(url)}" />'
        for e, url in sorted(links.items())
    )


def write_root_redirect(app: Sphinx, exception: Exception | None) -> None:
    """Write ``index.html``, which leads from the edition's root to its first page, for any static host."""
    if exception is not None or app.builder.format != "html":
        return
    edition = edition_of(app.config.language)
    first = html.escape(f"{app.config.root_doc}.html")
    title = html.escape(app.config.html_title or app.config.project)
    page = (
        f'<!DOCTYPE html>\n<html lang="{HTML_LANGUAGES[edition]}">\n<head>\n<meta charset="utf-8">\n'
        f'<title>{title}</title>\n<meta http-equiv="refresh" content="0; url={first}">\n'
        f'<link rel="canonical" href="{first}">\n</head>\n<body><p><a href="{first}">{title}</a></p></body>\n</html>\n'
    )
    (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")
    (Path(app.outdir) / ".nojekyll").touch()  # or GitHub Pages leaves out the folders that begin with _


def settle_config(app: Sphinx, config: Config) -> None:
    """Set what depends on the edition: where the mathematics is."""
    config.mathjax_path = edition_mathjax.mathjax_path(edition_of(config.language))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.add_search_language(SearchChineseBigrams)
    app.add_config_value("edition_stub_imports", [], "env", [list])
    app.connect("config-inited", settle_config)
    app.connect("builder-inited", edition_stubs.import_library_with_stubs)
    app.connect("html-page-context", add_edition_context)
    app.connect("html-page-context", edition_repairs.repair_page, priority=900)
    app.connect("build-finished", edition_mathjax.copy_mathjax)
    app.connect("build-finished", write_root_redirect, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
