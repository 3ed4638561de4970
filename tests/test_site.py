"""The built site: complete, self-contained, accessible, searchable, and the same in both editions.

These tests read ``_build/html``; ``make book`` writes it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"

# Keys of the configuration that may differ between the editions. Everything else has to be equal.
LANGUAGE_KEYS = {
    "title",
    "html.baseurl",
    "sphinx.config.language",
    "sphinx.config.nb_code_prompt_show",
    "sphinx.config.nb_code_prompt_hide",
    "sphinx.config.togglebutton_hint",
    "sphinx.config.togglebutton_hint_hide",
    "sphinx.config.html_theme_options.search_bar_text",
    "sphinx.config.html_theme_options.toc_title",
    "sphinx.config.html_theme_options.logo.text",
}
# Attributes by which a page loads something; a plain <a href> is a link that the reader follows or not
RESOURCE_ATTRIBUTES = ("src", "srcset", "poster", "data", "action")
LOADING_LINKS = {"stylesheet", "icon", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch", "manifest"}


@pytest.fixture(scope="session", autouse=True)
def site() -> Path:
    """The folder of the built site. Without one the tests fail: they would say nothing."""
    if not (SITE / "index.html").is_file():
        pytest.fail(f"no built site in {SITE.relative_to(ROOT)}: run make book first", pytrace=False)
    return SITE


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def html_files() -> list[Path]:
    return sorted(SITE.rglob("*.html"))


def content_pages() -> list[Path]:
    """Pages that somebody wrote, not templates, indices or redirects."""
    return [p for p in html_files() if p.relative_to(SITE).parts[0] in ("book", "notebooks", "en") and soup(p).article]


def name(path: Path) -> str:
    return path.relative_to(SITE).as_posix()


def toc_pages(toc: dict) -> Iterator[str]:
    yield from filter(None, (toc.get("root"), toc.get("file")))
    for key in ("parts", "chapters", "sections"):
        for entry in toc.get(key, []):
            yield from toc_pages(entry)


def load_yaml(file: str) -> dict:
    return yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))


def source_of(page: str) -> Path | None:
    return next((f for s in (".md", ".ipynb") if (f := ROOT / f"{page}{s}").is_file()), None)


# ---- both editions -----------------------------------------------------------------------------------


def test_every_page_of_the_contents_was_built() -> None:
    missing = [page for page in toc_pages(load_yaml("_toc.yml")) if not (SITE / f"{page}.html").is_file()]
    english = load_yaml("_toc.en.yml")
    if source_of(english["root"]):
        missing += [f"en/{page}" for page in toc_pages(english) if not (SITE / "en" / f"{page}.html").is_file()]
    assert not missing


def test_no_english_page_without_a_root_page() -> None:
    if source_of(load_yaml("_toc.en.yml")["root"]) is None:
        assert not (SITE / "en").exists()


def flatten(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(value, dict) and value:
        for key, child in value.items():
            yield from flatten(child, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def test_editions_have_the_same_configuration() -> None:
    chinese, english = (dict(flatten(load_yaml(f))) for f in ("_config.yml", "_config.en.yml"))
    different = {k for k in chinese.keys() | english.keys() if chinese.get(k) != english.get(k)}
    assert different <= LANGUAGE_KEYS


def test_editions_have_the_same_contents_in_the_same_order() -> None:
    """Every English page has its Chinese counterpart, and they stand in the same order."""
    chinese = list(toc_pages(load_yaml("_toc.yml")))
    english = [re.sub(r"(^|/)en/", r"\1zh/", page) for page in toc_pages(load_yaml("_toc.en.yml"))]
    assert english == [page for page in chinese if page in english]


def test_language_links_lead_to_existing_pages() -> None:
    for path in content_pages():
        for link in soup(path).select(".lang-switch a, link[rel=alternate][hreflang]"):
            address = urlsplit(link["href"])
            if not address.scheme:
                target = SITE / posixpath.normpath(posixpath.join(posixpath.dirname(name(path)), address.path))
                assert target.is_file(), f"{name(path)}: {link['href']}"


def test_language_link_stands_wherever_the_other_edition_has_the_page() -> None:
    english = set(toc_pages(load_yaml("_toc.en.yml"))) if (SITE / "en").is_dir() else set()
    for page in toc_pages(load_yaml("_toc.yml")):
        expected = re.sub(r"(^|/)zh/", r"\1en/", page) in english
        assert bool(soup(SITE / f"{page}.html").select(".lang-switch a")) == expected, page


# ---- nothing from another host -----------------------------------------------------------------------


def is_foreign(address: str) -> bool:
    return bool(re.match(r"\s*(https?:)?//", address))


def foreign_resources(path: Path) -> list[str]:
    found = []
    for tag in soup(path).find_all(True):
        addresses = [tag[a] for a in RESOURCE_ATTRIBUTES if tag.has_attr(a)]
        if tag.name == "link" and LOADING_LINKS & set(tag.get("rel", [])):
            addresses.append(tag.get("href", ""))
        if tag.name in ("image", "use"):  # inside SVG
            addresses += [tag[a] for a in ("href", "xlink:href") if tag.has_attr(a)]
        if tag.name == "style" or tag.has_attr("style"):
            addresses += css_addresses(tag.get("style", "") + (tag.string or "" if tag.name == "style" else ""))
        if tag.name == "script" and not tag.has_attr("src"):
            addresses += re.findall(r"""(?:import|from|\.src\s*=)\s*\(?\s*["'](https?://[^"']+)""", tag.string or "")
        found += [f"{name(path)}: <{tag.name}> {a}" for a in addresses if is_foreign(a)]
    return found


def css_addresses(text: str) -> list[str]:
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return re.findall(r"url\(\s*['\"]?([^'\")]+)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)


def test_pages_load_nothing_from_another_host() -> None:
    assert not [hit for path in html_files() for hit in foreign_resources(path)]


def test_styles_load_nothing_from_another_host() -> None:
    sheets = sorted(SITE.rglob("*.css"))
    assert sheets
    hits = [(name(p), a) for p in sheets for a in css_addresses(p.read_text(encoding="utf-8")) if is_foreign(a)]
    assert not hits


def test_a_foreign_resource_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("test_site.SITE" if __name__ == "test_site" else f"{__name__}.SITE", tmp_path)
    page = tmp_path / "page.html"
    page.write_text(
        '<link rel="stylesheet" href="//a.example/x.css"><script src="https://b.example/x.js"></script>'
        '<p style="background: url(http://c.example/x.png)"><a href="https://d.example">fine</a></p>'
        '<style>@import "https://e.example/x.css";</style><img src="https://f.example/x.png">'
    )
    hosts = {re.search(r"//(\w)\.", hit)[1] for hit in foreign_resources(page)}
    assert hosts == set("abcef")


# ---- mathematics -------------------------------------------------------------------------------------

MATHJAX = SITE / "_static" / "mathjax" / "tex-chtml-full.js"


def test_mathjax_and_its_fonts_are_in_the_site_once() -> None:
    assert MATHJAX.is_file()
    assert list((MATHJAX.parent / "output" / "chtml" / "fonts" / "woff-v2").glob("*.woff"))
    assert not (SITE / "en" / "_static" / "mathjax").exists()


def test_pages_with_formulas_load_the_local_mathjax() -> None:
    for path in content_pages():
        page = soup(path)
        scripts = [s["src"] for s in page.select("script[src]") if "mathjax" in s["src"].lower()]
        if page.select(".math"):
            assert len(scripts) == 1, name(path)
        for address in scripts:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name(path)), urlsplit(address).path))
            assert SITE / target == MATHJAX, name(path)


# ---- pictures, outputs, accessibility ----------------------------------------------------------------


def test_every_picture_has_a_sentence_as_alternative_text() -> None:
    bad = []
    for path in content_pages():
        for image in soup(path).select("article img"):
            alt = (image.get("alt") or "").strip()
            is_path = re.search(r"[/\\]|\.(png|svg|jpe?g|gif|webp)$", alt) and " " not in alt
            # a sentence: several words, or as many characters as several words have in Chinese
            if is_path or (len(alt.split()) < 3 and len(re.findall(r"[\u4e00-\u9fff]", alt)) < 6):
                bad.append(f"{name(path)}: {image.get('src')}: {alt!r}")
        for image in soup(path).find_all("img"):
            if not image.has_attr("alt"):  # outside the article an empty one marks decoration
                bad.append(f"{name(path)}: {image.get('src')}: no alt")
    assert not bad


def test_every_button_and_box_has_a_name() -> None:
    nameless = []
    for path in content_pages():
        for control in soup(path).select("button, input:not([type=hidden])"):
            if not (control.get("aria-label") or control.get_text(strip=True)):
                nameless.append(f"{name(path)}: {control}")
    assert not nameless


def test_lists_hold_list_items() -> None:
    for path in content_pages():
        for part in soup(path).select("[role=list]"):
            children = [c for c in part.children if isinstance(c, Tag)]
            assert all(c.name == "li" or c.get("role") == "listitem" for c in children), name(path)


def test_no_stored_output_is_an_error() -> None:
    """A stored traceback passes ``-W``, so it is looked for in the notebooks and in the pages."""
    for page in toc_pages(load_yaml("_toc.yml")):
        notebook = ROOT / f"{page}.ipynb"
        if not notebook.is_file():
            continue
        for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
            if "raises-exception" not in cell.get("metadata", {}).get("tags", []):
                kinds = [output["output_type"] for output in cell.get("outputs", [])]
                assert "error" not in kinds, f"{page}: cell {number}"
                marks = soup(SITE / f"{page}.html").select(".output.traceback")
                assert not marks or _has_expected_error(notebook), page


def _has_expected_error(notebook: Path) -> bool:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return any("raises-exception" in cell.get("metadata", {}).get("tags", []) for cell in cells)


def test_no_machine_path_is_shown() -> None:
    for path in content_pages():
        found = re.findall(r"(?<![\w.])/(?:tmp|root|work|home/\w+)/[\w./-]*", soup(path).article.get_text())
        assert not found, f"{name(path)}: {found}"


# ---- search ------------------------------------------------------------------------------------------


def search_index() -> dict:
    text = (SITE / "searchindex.js").read_text(encoding="utf-8")
    return json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))


def find(index: dict, word: str) -> set[str]:
    """Pages that the browser would find: those with all pairs of neighbouring characters."""
    pages = None
    for pair in [word[i : i + 2] for i in range(len(word) - 1)]:
        hits: set[int] = set()
        for part in ("terms", "titleterms"):
            entry = index[part].get(pair, [])
            hits |= {entry} if isinstance(entry, int) else set(entry)
        pages = hits if pages is None else pages & hits
    return {index["docnames"][i] for i in pages or ()}


@pytest.mark.parametrize("word", ["准确率", "验证集", "迁移学习"])
def test_search_finds_a_chinese_word_on_every_page_that_has_it(word: str) -> None:
    index = search_index()
    pages = {
        name(p).removesuffix(".html")
        for p in content_pages()
        if not name(p).startswith("en/") and word in re.sub(r"\s", "", soup(p).article.get_text())
    }
    assert pages, f"no page has {word}: choose another word for this test"
    assert pages <= find(index, word)


def test_the_browser_splits_a_query_in_the_same_way() -> None:
    assert "function splitQuery" in (SITE / "_static" / "language_data.js").read_text(encoding="utf-8")


# ---- links -------------------------------------------------------------------------------------------


@cache
def anchors(path: Path) -> frozenset[str]:
    return frozenset(t[a] for t in soup(path).find_all(True) for a in ("id", "name") if t.has_attr(a))


def broken_links(path: Path) -> list[str]:
    bad = []
    for tag in soup(path).find_all(["a", "link", "script", "img", "meta"]):
        address = tag.get("href") or tag.get("src") or ""
        if tag.name == "meta" and tag.get("http-equiv", "").lower() == "refresh":
            address = tag["content"].partition("url=")[2]
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or not address:
            continue
        target = path
        if parts.path:
            target = SITE / posixpath.normpath(posixpath.join(posixpath.dirname(name(path)), unquote(parts.path)))
        if not target.is_file():
            bad.append(f"{name(path)}: {address}")
        elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in anchors(target):
            bad.append(f"{name(path)}: {address}: no such anchor")
    return bad


def test_every_internal_link_leads_somewhere() -> None:
    templates = {"webpack-macros.html", "sbt-webpack-macros.html"}  # the themes copy these into _static
    assert not [bad for path in html_files() if path.name not in templates for bad in broken_links(path)]
