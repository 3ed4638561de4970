"""Accessibility repairs of the HTML that the extensions write.

Each is a small, literal replacement with its reason beside it; the page that needs none is left alone.
What scrolls depends on the width of the window, so ``tabindex`` for it is set in ``course.js``.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# labels, by whether the page is Chinese
TASK_BOX = {True: "任务", False: "task"}
PERMALINK = {True: "此处的链接", False: "Link to this place"}


def repair_body(body: str, *, chinese: bool) -> str:
    """Repair the HTML of a page's body.

    Parameters
    ----------
    body : str
        What Sphinx and its extensions wrote.
    chinese : bool
        Language of the labels that are added.

    Returns
    -------
    str
        The same content, with names and roles that a screen reader understands.
    """
    # myst-nb: this label hides the visible text of the summary (显示代码) from speech control
    body = body.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    # sphinxcontrib-bibtex: the children of a list have to be list items; doc-biblioentry is deprecated
    body = body.replace(' role="doc-biblioentry"', ' role="listitem"')
    # footnotes have the same fault
    body = re.sub(r'<aside class="footnote-list( brackets)?" role="list">', r'<aside class="footnote-list\1">', body)
    # bibtex: "et al." is Latin; as <em> it would take the weight of emphasis in the Chinese edition
    body = body.replace("<em>et al.</em>", '<i lang="la">et al.</i>')
    # task lists: a box without a name
    box = r"<input\b(?=[^>]*task-list-item-checkbox)(?![^>]*aria-label)"
    body = re.sub(box, f'<input aria-label="{TASK_BOX[chinese]}"', body)
    # Sphinx's Chinese catalogue leaves the titles of the permalinks in English
    body = re.sub(r'title="Link to this [a-z ]+"', f'title="{PERMALINK[chinese]}"', body)
    # tables scroll inside their own box on a phone, and do not push the page wide
    body = re.sub(r"(<table\b)", r'<div class="course-table">\1', body)
    body = body.replace("</table>", "</table></div>")
    return body


def repair_page(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None
) -> None:
    """Repair each page before its template is filled in."""
    if body := context.get("body"):
        context["body"] = repair_body(body, chinese=app.config.language.startswith("zh"))
