"""Hook of the docs site: a link to a file of the repository that is no page becomes its path, one to nothing an error.

Pages are read on the site and in the repository. There such a link opens the file; the site has no copy of it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    def told(link: re.Match[str]) -> str:
        place = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page.file.src_uri), link[2]))
        if place.startswith("docs/"):
            return link[0]
        if place.startswith("..") or not (ROOT / place).exists():
            raise PluginError(f"{page.file.src_uri} links to {link[2]}, which is not there")
        return link[1] if link[1].strip("`") == place else f"{link[1]} (`{place}`)"

    return LINK.sub(told, markdown)
