"""The built documents: complete, linked, and with nothing from outside."""

import json
import re
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import scoresde
from tests.docs.conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import gallery

MOST_SECONDS = 20.0  # of one core, for one example

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page names and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a":
            self.links += [values["href"]] if "href" in values else []
        else:
            self.loads += [values[name] for name in ("href", "src", "poster", "data") if name in values]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path: Page(path) for path in site.rglob("*.html")}
    assert len(found) > 25
    return found


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Page]) -> None:
    wrong, checked = [], 0
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            start = site if parts.path.startswith("/") else path.parent
            target = (start / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchors = pages[target].anchors if target in pages else set()
            if not target.exists() or (parts.fragment and unquote(parts.fragment) not in anchors):
                wrong.append(f"{path.relative_to(site)}: {link}")
    assert not wrong
    assert checked > 500


def test_nothing_is_loaded_from_outside(site: Path, pages: dict[Path, Page]) -> None:
    outside = re.compile(r"\s*(https?:)?//")
    assert not {load for page in pages.values() for load in page.loads if outside.match(load)}
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert styles
    for style in styles:
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style)
    scripts = [path for path in site.rglob("*.js") if "search" not in path.parts]
    assert scripts
    for script in scripts:
        assert not re.search(
            r"(\.src|\.href|import|fetch)\s*[=(]\s*[\"'`](https?:)?//", script.read_text()
        ), script


def test_the_inventory_holds_every_public_name(site: Path) -> None:
    lines = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    held = {line.split(" ")[0] for line in zlib.decompress(lines).decode().splitlines()}
    missing = {name for name in scoresde.__all__ if f"scoresde.{name}" not in held}
    page = (site / "api" / "index.html").read_text()
    assert not {name for name in missing if f"<code>{name}</code></a>" not in page}
    assert len(missing) < 5  # modules and constants: the page of public names links them to what they are


def test_every_example_is_short(site: Path) -> None:
    assert {path.stem for path in gallery.EXAMPLES.glob("*.py")} == set(gallery.ORDER)
    for name in gallery.ORDER:
        about = json.loads((gallery.build(gallery.EXAMPLES / f"{name}.py") / "about.json").read_text())
        assert 0 < about["cpu_seconds"] < MOST_SECONDS, name


def test_marks_of_generated_tables_are_gone(site: Path) -> None:
    for path in site.rglob("*.html"):
        assert "<!-- table:" not in path.read_text(), path
