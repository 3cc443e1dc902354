"""Links of the pages lead to files of the repository; here they become links of the site."""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(\]\()([^)#\s]+)")

# Files of the repository that are pages of the site, too.
PAGES = {
    ".github/CONTRIBUTING.md": "contributing.md",
    ".github/SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/results/certificates.md": "certificates.md",
}


def to_site(markdown: str, uri: str) -> str:
    """The text of the page ``uri``, each link to a page or a picture as the site needs it."""
    folder = posixpath.dirname(_source(uri))

    def linked(link: re.Match[str]) -> str:
        if uri.startswith("gallery/") and "/" not in link[2]:  # a picture or the script beside the page
            return link[0]
        found = _page(posixpath.normpath(posixpath.join(folder, link[2])))
        return link[1] + (posixpath.relpath(found, posixpath.dirname(uri) or ".") if found else link[2])

    return LINK.sub(linked, markdown)


def _source(uri: str) -> str:
    """The file of the repository that a page is made of."""
    of_page = {page: source for source, page in PAGES.items()}
    if uri.startswith("gallery/"):
        return f"docs/examples/{Path(uri).stem}.py"
    return of_page.get(uri, f"docs/pages/{uri}")


def _page(path: str) -> str | None:
    """Where the site shows a file of the repository; None for a file that it does not show."""
    if path in PAGES:
        return PAGES[path]
    folder, name = posixpath.split(path)
    if folder == "docs/examples" and name.endswith(".py"):
        return f"gallery/{Path(name).stem}.md"
    if folder == "benchmarks/figures":
        return f"figures/{name}"
    return path.removeprefix("docs/pages/") if path.startswith("docs/pages/") else None
