"""The documents as a browser shows them: formulas, search, sliders, a narrow screen, no errors."""

from pathlib import Path

import pytest

from tests.docs.browser import Browser

pytestmark = pytest.mark.slow
NARROW = 390  # pixels: a telephone


@pytest.fixture(scope="module")
def names(site: Path) -> list[str]:
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))


def test_every_page_is_shown_whole_and_from_here_alone(
    browser: Browser, address: str, names: list[str]
) -> None:
    broken = "[...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src)"
    for name in names:
        browser.open(f"{address}/{name}")
        assert browser.run(broken) == [], name
        assert not browser.faults, name
        asked = [url for url in browser.loaded if not url.startswith(("data:", "blob:"))]
        assert asked, name
        assert all(url.startswith(address) for url in asked), name


def test_every_page_fits_a_narrow_screen(browser: Browser, address: str, names: list[str]) -> None:
    wide = []
    for name in names:
        browser.open(f"{address}/{name}", width=NARROW)
        if browser.run("document.documentElement.scrollWidth") > NARROW:
            wide.append(name)
    assert not wide


def test_formulas_are_set(browser: Browser, address: str) -> None:
    browser.open(f"{address}/theory.html")
    assert browser.run("document.querySelectorAll('.katex').length") > 10
    assert browser.run("document.querySelectorAll('.katex-error').length") == 0
    assert browser.run("document.fonts.ready.then(fonts => fonts.check('16px KaTeX_Main'))")


@pytest.mark.parametrize("served", [True, False], ids=["server", "file"])
def test_search_finds_karras(browser: Browser, address: str, site: Path, served: bool) -> None:
    browser.open(f"{address}/index.html" if served else (site / "index.html").as_uri())
    browser.run("document.querySelector('[data-md-component=search-query]').focus()")
    browser.type("karras")
    results = "document.querySelectorAll('.md-search-result__item').length"
    assert browser.until(results) > 0
    first = "document.querySelector('.md-search-result__item').textContent.toLowerCase().includes('karras')"
    assert browser.run(first)


def test_sliders_change_the_picture(browser: Browser, address: str) -> None:
    browser.open(f"{address}/compare.html")
    picture = "document.querySelector('[data-part=picture]')"
    shown = [browser.run(f"{picture}.src")]
    for slider in ("solver", "calls"):
        browser.run(f"document.querySelector('[data-part={slider}]').focus()")
        browser.press("ArrowRight", 39)
        shown.append(browser.run(f"{picture}.src"))
        assert browser.until(f"{picture}.complete && {picture}.naturalWidth") > 200
    names = [address.rsplit("/", 1)[1] for address in shown]
    assert names == ["dpmpp-2m-6.png", "deis-6.png", "deis-8.png"]
    assert browser.run("document.querySelector('[data-part=calls]').getAttribute('aria-valuetext')") == "8"
    caption = browser.run("document.querySelector('[data-part=caption]').textContent")
    assert caption.startswith("deis, 8 calls: RMSE 0.")
