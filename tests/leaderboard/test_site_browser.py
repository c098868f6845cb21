"""The site in a real browser, opened from the file system: headless Chromium, if it is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ganno_bench.leaderboard.build import generate
from ganno_bench.leaderboard.text import page_name
from tests.helpers.site_cases import HOSTILE, make_boards

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow(group="browser"),
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
    ),
]
FLAGS = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync", "disable-dev-shm-usage", "window-size=1280,900",
)  # fmt: skip
PATIENCE = 120
"""Seconds until a page that does not load is an error; a busy machine takes a small part of them."""
OWN = f"ladder/zero-shot/{page_name(HOSTILE)}.html"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("leaderboard")
    for path, text in generate(make_boards(), drawn=False):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder / "site"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def visit(browser: Any, site: Path) -> Any:
    """Open a page of the site with a system theme and a window width; the browser must log no errors."""
    from selenium.webdriver.support.wait import WebDriverWait

    def opened(path: str, *, dark: bool = False, width: int = 1280) -> Any:
        media = {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        address = (site / path).as_uri()
        browser.execute_script("window.isOld = true")
        browser.get(address)
        # `get` may return while the old page, or an empty one, is still there: a page that is loaded again has the same
        # address, so the old one is known by its mark.
        shown = "return !window.isOld && location.href === arguments[0] && document.readyState === 'complete'"
        WebDriverWait(browser, PATIENCE).until(lambda _: browser.execute_script(shown, address))
        return browser

    opened("index.html")
    browser.execute_script("localStorage.clear()")
    browser.get_log("browser")
    yield opened
    assert browser.get_log("browser") == []


def column(browser: Any, title: str, table: int = 0) -> list[str]:
    """Return the visible cells of a table's column."""
    script = """
        const table = document.querySelectorAll("table.standings")[arguments[1]];
        const at = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim() === arguments[0]);
        return [...table.tBodies[0].rows].filter((row) => !row.hidden).map((row) => row.cells[at].innerText.trim());
    """
    found: list[str] = browser.execute_script(script, title, table)
    return found


def head(browser: Any, title: str) -> Any:
    from selenium.webdriver.common.by import By

    return browser.find_element(By.XPATH, f"//table[1]//th[normalize-space()='{title}']")


def test_a_click_sorts_and_another_turns_it_round(visit: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser = visit("ladder/workloads/mlp-depth-16.html")
    losses = [float(text) for text in column(browser, "Test loss")]
    assert losses == sorted(losses)
    assert head(browser, "Test loss").get_attribute("aria-sort") == "ascending"
    assert head(browser, "Score").get_attribute("aria-sort") == "none"
    head(browser, "Score").find_element(By.TAG_NAME, "button").click()
    scores = [float(text.split()[0].replace("\u2212", "-")) for text in column(browser, "Score")]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] < -9.9 < 0 < scores[0]  # in the order of texts -9 would come behind -10
    assert head(browser, "Score").get_attribute("aria-sort") == "descending"
    assert head(browser, "Test loss").get_attribute("aria-sort") == "none"
    head(browser, "Score").find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)  # the keyboard does it, too
    assert [float(text.split()[0].replace("\u2212", "-")) for text in column(browser, "Score")] == scores[::-1]
    head(browser, "Entry").find_element(By.TAG_NAME, "button").click()
    names = column(browser, "Entry")
    assert [name for name in names if not name.startswith("<")] == ["constant", "cosine", "ganno", "hypergradient"]


def test_what_has_no_value_stays_at_the_end(visit: Any) -> None:
    from selenium.webdriver.common.by import By

    browser = visit("ladder/index.html")
    button = head(browser, "P(better)").find_element(By.TAG_NAME, "button")
    for _ in range(2):
        button.click()
        assert column(browser, "P(better)")[-2:] == ["\u2013", "\u2013"]  # cosine itself, and the oracle


def test_filters_by_ruleset_and_name(visit: Any) -> None:
    from selenium.webdriver.common.by import By

    browser = visit("ladder/workloads/mlp-depth-2.html")
    assert len(column(browser, "Entry")) == 5
    browser.find_element(By.CSS_SELECTOR, "input[value=zero-shot]").click()
    assert set(column(browser, "Ruleset")) == {"zero-shot"}
    assert browser.find_element(By.TAG_NAME, "output").text == "2 of 5 rows"
    browser.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("GANN")
    assert column(browser, "Entry") == ["ganno"]
    browser = visit("ladder/index.html")
    browser.find_element(By.CSS_SELECTOR, "input[value=tuned]").click()
    shown = [section.is_displayed() for section in browser.find_elements(By.CSS_SELECTOR, "section[data-ruleset]")]
    assert shown == [True, False]


def test_the_theme_is_the_systems_until_one_is_chosen_and_then_kept(visit: Any) -> None:
    from selenium.webdriver.common.by import By

    def paper(browser: Any) -> str:
        return str(browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color"))

    light, dark = paper(visit("index.html")), paper(visit("index.html", dark=True))
    assert light != dark
    browser = visit("index.html")
    button = browser.find_element(By.ID, "theme")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    assert (paper(browser), button.get_attribute("aria-pressed")) == (dark, "true")
    browser = visit("ladder/index.html")
    assert paper(browser) == dark
    browser.find_element(By.ID, "theme").click()
    assert paper(visit("ladder/index.html", dark=True)) == light


def test_no_page_complains_or_is_wider_than_a_phone(visit: Any, site: Path) -> None:
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    assert len(pages) == 16
    for page in pages:
        browser = visit(page, width=375)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 375, page
        outside = browser.execute_script(
            "return [...document.querySelectorAll('main *')].filter((e) => !e.closest('.scroll, pre, svg') "
            "&& e.getBoundingClientRect().right > 376).map((e) => e.outerHTML.slice(0, 80))"
        )
        assert outside == [], page
        assert browser.get_log("browser") == [], page


def test_links_lead_to_pages_with_a_heading(visit: Any, site: Path) -> None:
    from selenium.webdriver.common.by import By

    browser = visit("ladder/index.html")
    links = {link.get_attribute("href") for link in browser.find_elements(By.CSS_SELECTOR, "main a")}
    assert (site / OWN).as_uri() in links
    for link in sorted(link for link in links if link.partition("#")[0].endswith(".html")):
        browser.get(link)
        assert browser.find_element(By.TAG_NAME, "h1").text
        if "#" in link:
            assert browser.find_elements(By.ID, link.partition("#")[2]), link


def test_what_others_wrote_does_nothing(visit: Any) -> None:
    from selenium.common.exceptions import NoAlertPresentException
    from selenium.webdriver.common.by import By

    for page in (OWN, "index.html", "ladder/index.html", "ladder/workloads/mlp-depth-2.html"):
        browser = visit(page)
        with pytest.raises(NoAlertPresentException):
            _ = browser.switch_to.alert.text
        assert browser.find_elements(By.CSS_SELECTOR, "img, script:not([src])") == []
        assert "<script>alert(1)</script>" in browser.find_element(By.TAG_NAME, "main").text


def test_the_keyboard_begins_at_a_link_to_the_content_and_can_see_where_it_is(visit: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser = visit("ladder/index.html")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    first = browser.switch_to.active_element
    assert (first.text, first.value_of_css_property("position")) == ("Skip to the content", "absolute")
    assert first.size["width"] > 50  # it is seen as soon as it has the focus
    first.send_keys(Keys.ENTER)
    browser.switch_to.active_element.send_keys(Keys.TAB)
    inside = browser.switch_to.active_element
    assert browser.execute_script("return arguments[0].closest('main') !== null", inside)
    assert inside.value_of_css_property("outline-style") == "solid"


def test_the_policy_of_the_page_forbids_what_it_does_not_need(visit: Any, browser: Any) -> None:
    page = visit("index.html")
    page.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.broken = 1'; document.body.append(s);"
    )
    assert page.execute_script("return window.broken") is None
    complaints = browser.get_log("browser")
    assert len(complaints) == 1
    assert "Content Security Policy" in complaints[0]["message"]
