"""What the builder of the site does beside Markdown: generated tables, pages and pictures."""

import re
from collections.abc import Callable
from pathlib import Path

import api
import gallery
import generated
import links
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
TABLE = re.compile(r"<!-- table: (\S+) -->")
FIGURE = re.compile(r'<img [^>]*src="([^"]*figures/[^"]*)"[^>]*>')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation, with the examples and the packages under their headings."""
    found: dict[str, Callable[[], list[object]]] = {"gallery/": gallery.navigation, "api/": api.navigation}
    config.nav = [
        {title: found[target]() if isinstance(target, str) and target in found else target}
        for entry in config.nav or []
        for title, target in entry.items()
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The written pages, and those that are generated or stand elsewhere in the repository."""
    for source, uri in links.PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / source).read_text()))
    for path in sorted((ROOT / "benchmarks/figures").glob("*.png")):
        files.append(File.generated(config, f"figures/{path.name}", abs_src_path=str(path)))
    for path in gallery.built():
        files.append(File.generated(config, f"gallery/{path.name}", abs_src_path=str(path)))
    for name, text in api.pages().items():
        files.append(File.generated(config, f"api/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Generated tables in the place of their marks, and links into the repository as links of the site."""
    markdown = links.to_site(markdown, page.file.src_uri)
    return TABLE.sub(lambda mark: generated.TABLES[mark[1]](), markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Each figure is a link to the picture in its full size, which a narrow column does not show."""
    return FIGURE.sub(r'<a class="figure" href="\1" title="Full size">\g<0></a>', html)
