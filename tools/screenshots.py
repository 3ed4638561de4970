"""Take screenshots of pages of the built site, and report what a browser complains of.

For authors: ``python tools/screenshots.py FOLDER [PAGE ...]`` with pages as in the table of contents
(``book/zh/index``); without any, all pages. Each page is taken at 1280 and 390 pixels, light and dark.
Needs the package ``playwright`` and a Chromium on the machine (``--chromium`` names it). The site is served
from a local port while this runs. The exit code is 1 after a console error or a request to another host.
"""

from __future__ import annotations

import argparse
import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, sync_playwright

SITE = Path(__file__).resolve().parent.parent / "_build" / "html"
SIZES = {1280: 900, 390: 844}
THEMES = ("light", "dark")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(site: Path) -> Iterator[str]:
    """Serve a folder on a free local port.

    Parameters
    ----------
    site : Path
        Folder with the built HTML.

    Yields
    ------
    str
        Address of its root, with a slash at the end.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def visit(browser: Browser, root: str, page_name: str, width: int, theme: str, target: Path, full: bool) -> list[str]:
    """Take one screenshot.

    Parameters
    ----------
    browser : Browser
        A running browser.
    root : str
        Address of the site.
    page_name : str
        Page without ``.html``.
    width : int
        Width of the window, a key of ``SIZES``.
    theme : {"light", "dark"}
        Both what the system prefers and what the reader chose.
    target : Path
        The PNG file to write.
    full : bool
        The whole page, or only the first screen.

    Returns
    -------
    list of str
        Console errors, script errors, failed requests, requests to other hosts, a page wider than the window.
    """
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": SIZES[width]}, color_scheme=theme)
    context.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}');")
    page = context.new_page()
    host = urlsplit(root).netloc

    def on_request(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.netloc != host:
            complaints.append(f"request to another host: {url}")

    page.on("request", lambda request: on_request(request.url))
    page.on("requestfailed", lambda request: complaints.append(f"request failed: {request.url}"))
    page.on("response", lambda r: complaints.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
    page.on("console", lambda m: complaints.append(f"console: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(f"script error: {error}"))
    page.goto(f"{root}{page_name}.html", wait_until="networkidle")
    page.evaluate("() => window.MathJax && MathJax.startup ? MathJax.startup.promise : null")
    page.wait_for_timeout(300)
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    if wide > 0:
        complaints.append(f"the page is {wide} px wider than the window")
    page.screenshot(path=target, full_page=full)
    context.close()
    return complaints


def main(arguments: list[str] | None = None) -> int:
    """Take the screenshots that the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the PNG files go")
    parser.add_argument("pages", nargs="*", help="page names, for example book/zh/index")
    parser.add_argument("--site", type=Path, default=SITE, help="folder with the built site")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program file")
    parser.add_argument("--screen", action="store_true", help="only the first screen, not the whole page")
    options = parser.parse_args(arguments)
    if not (options.site / "index.html").is_file():
        parser.error(f"no built site in {options.site}: run make book first")
    pages = options.pages or sorted(
        path.relative_to(options.site).with_suffix("").as_posix()
        for part in ("book", "notebooks", "en/book", "en/notebooks")
        for path in (options.site / part).rglob("*.html")
    )
    options.folder.mkdir(parents=True, exist_ok=True)
    bad = 0
    with serve(options.site) as root, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=QUIET)
        for name in pages:
            for width in SIZES:
                for theme in THEMES:
                    target = options.folder / f"{name.replace('/', '_')}-{width}-{theme}.png"
                    complaints = visit(browser, root, name, width, theme, target, not options.screen)
                    bad += len(complaints)
                    print(target.name, *(complaints or ["ok"]), sep="\n    " if complaints else " ")
        browser.close()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
