"""Full-text search for Chinese without a dictionary: index characters and pairs of neighbours.

Sphinx's own Chinese search needs the package jieba and still misses words that its dictionary splits
otherwise. A query is cut in the same way as the text, and all pairs have to be on a page, which finds
every word of any length.
"""

from __future__ import annotations

import re

import snowballstemmer
from sphinx.search.zh import SearchChinese

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_RUNS = re.compile(rf"[{HAN}]+|[a-zA-Z0-9_]+")

# The same in the reader's browser, for the query. A run of Chinese characters becomes its pairs (a single
# character stays alone); Latin words and numbers stay whole.
_JS_SPLITTER = r"""
function splitQuery(query) {
  const words = [];
  for (const run of query.match(/[HAN]+|[a-zA-Z0-9_]+/g) || []) {
    if (/^[a-zA-Z0-9_]/.test(run) || run.length === 1) words.push(run);
    else for (let i = 0; i + 1 < run.length; i++) words.push(run.slice(i, i + 2));
  }
  return words;
}
""".replace("HAN", r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff")


class SearchChineseBigrams(SearchChinese):
    """Search language ``zh``: characters and bigrams for Chinese, stemmed words for English."""

    lang = "zh"
    language_name = "Chinese"
    js_splitter_code = _JS_SPLITTER

    def init(self, options: dict[str, str]) -> None:
        """Prepare the stemmer; it is the one of the JavaScript side."""
        self.stemmer = snowballstemmer.stemmer("porter")

    def split(self, input: str) -> list[str]:
        """Cut a text into the words of the index.

        Parameters
        ----------
        input : str
            Any text.

        Returns
        -------
        list of str
            Latin words, and for each run of Chinese characters the characters and the pairs of neighbours.
        """
        words: list[str] = []
        for run in _RUNS.findall(input):
            if run[0].isascii():
                words.append(run)
            else:
                words += [*run, *(run[i : i + 2] for i in range(len(run) - 1))]
        return words

    def stem(self, word: str) -> str:
        """Stem an English word of at least three letters; leave everything else as it is."""
        return self.stemmer.stemWord(word.lower()) if word.isascii() and len(word) > 2 else word.lower()

    def word_filter(self, word: str) -> bool:
        """Whether a word goes into the index: any Chinese one, and Latin ones that say something."""
        return bool(word) and (not word.isascii() or (len(word) > 1 and word not in self.stopwords))
