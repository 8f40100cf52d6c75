"""The page in a real browser: what is seen, and what can be done without a mouse."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests import browser
from tests.pipeline.web.harness import TOKEN, Running, bury, running
from tests.worker.harness import apply, delivery, heartbeat, node_report, report, usage_report

PATIENCE = 20.0
"""Seconds for which a busy machine may take."""

HOSTILE = (
    "<img src=x onerror=document.title='taken'>",
    "\"'><script>document.title='taken'</script>",
    "\u202egnp.exe",
    "x" * 300,
    "a\x1b[31m\x07b/c?d#e&f=%00",
    "שלום",
)
"""Names that mean something to whoever takes them for more than a name."""


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    """A browser, for all of these tests."""
    found = browser.programs()
    if found is None:
        pytest.skip(browser.MISSING)
    with browser.running(found) as driver:
        yield driver


class Page:
    """What somebody sees and does; for use in a thread."""

    def __init__(self, driver: Chrome, site: Running) -> None:
        self.driver = driver
        self.site = site

    def open(self, route: str, *, width: int = 1280, dark: bool = False) -> None:
        """Look at a route on a screen so wide."""
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.driver.get(f"{self.site.url}#{route}")

    @property
    def text(self) -> str:
        """All that can be read in the middle."""
        return self.driver.find_element(By.ID, "main").text

    def until(self, text: str) -> None:
        """Wait until it can be read."""
        self.wait(lambda: text in self.text)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds."""
        WebDriverWait(self.driver, PATIENCE, poll_frequency=0.02).until(lambda _: condition())

    def run(self, script: str) -> Any:
        """What a script returns."""
        return self.driver.execute_script(f"return {script}")

    def press(self, *keys: str) -> None:
        """Press keys where the focus is."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def complaints(self) -> list[str]:
        """What the browser has noted: scripts that failed, and what the policy refused. What it was
        loading when somebody went to another page is no complaint."""
        noted = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [str(each["message"]) for each in noted if each["source"] != "network"]


async def test_it_stays_current(chrome: Chrome) -> None:
    """What happens while somebody looks is seen, and nothing of what he did is lost."""
    async with running() as site:
        page = Page(chrome, site)
        await asyncio.to_thread(page.open, "/")
        await asyncio.to_thread(page.until, "No backend has reported yet.")
        await apply(site.store, report(), heartbeat(at=time.time()))
        await asyncio.to_thread(page.until, "1 RUNNING")
        find = chrome.find_element(By.ID, "find")
        await asyncio.to_thread(find.send_keys, "no such")
        await asyncio.to_thread(page.until, "No backend has this in its name.")
        await asyncio.to_thread(find.send_keys, Keys.CONTROL + "a", Keys.NULL, "backend")
        await apply(site.store, report(version=(1, 2), status="COMPLETED"))
        await asyncio.to_thread(page.until, "1 COMPLETED")
        assert page.run("document.activeElement.id") == "find"
        assert page.run("document.getElementById('find').value") == "backend"
        assert page.run("document.getElementById('state').textContent") == "live"
        assert page.complaints() == []


async def test_names_are_nothing_but_names(chrome: Chrome) -> None:
    """Whatever stands in them, wherever they are shown, and links lead to them."""
    async with running(TOKEN) as site:
        page = Page(chrome, site)
        for name in HOSTILE:
            told = [
                report(name, flow=name, node=name, status=name, pod=f"osmo/{name}", message=name),
                node_report(name, hostname=name),
                usage_report(name),
            ]
            await site.store.handle_batch([delivery(each, backend=name) for each in told])
        await bury(site.queue, 1, reason=HOSTILE[0])

        def look() -> None:
            # Each way to show a name, with the two that mean most.
            for name in HOSTILE[:2]:
                one = quote(name, safe="")
                for route in (f"/backend/{one}", f"/workflow/{one}", f"/node/{one}/{one}"):
                    page.open(route)
                    page.wait(lambda: page.run("document.querySelectorAll('tbody tr').length") > 0)
                    assert (
                        page.run("document.querySelectorAll('#main img, #main script').length") == 0
                    )
                    assert "taken" not in page.driver.title.split("=")[0]
            page.open("/letters", width=390)
            page.until(HOSTILE[0])
            page.open("/", width=390)
            page.until("\\u{202e}gnp.exe")
            assert page.run("document.documentElement.scrollWidth") <= 390
            page.driver.find_element(By.LINK_TEXT, "a\\u{1b}[31m\\u{7}b/c?d#e&f=%00").click()
            page.until("Backend a\\u{1b}[31m\\u{7}b/c?d#e&f=%00")
            assert page.complaints() == []

        await asyncio.to_thread(look)


async def test_it_needs_no_mouse(chrome: Chrome) -> None:
    """Keys alone lead to everything; what has the focus is seen, and what it is is said."""
    async with running() as site:
        await apply(site.store, report(node="node-1"), node_report())
        page = Page(chrome, site)

        def go() -> None:
            page.open("/")
            page.until("1 RUNNING")
            page.press(Keys.TAB)
            assert page.run("document.activeElement.id") == "skip"
            page.press(Keys.ENTER)
            assert page.run("document.activeElement.id") == "main"
            page.press(Keys.TAB, Keys.TAB, Keys.TAB)
            assert page.run("document.activeElement.textContent") == "backend-1"
            assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            page.press(Keys.ENTER)
            page.until("Tasks whose pods are in the cluster")
            assert page.run("document.activeElement.id") == "main"
            nameless = (
                "[...document.querySelectorAll('a, button, input, summary')]"
                ".filter((e) => !(e.textContent || e.ariaLabel || e.labels?.length)).length"
            )
            assert page.run(nameless) == 0
            page.driver.find_element(By.ID, "workflow").send_keys("flow", Keys.ENTER)
            page.until("History, 1 step")

        await asyncio.to_thread(go)


async def test_light_and_dark(chrome: Chrome) -> None:
    """As the system has it, and what is written stands out from what it is written on."""
    async with running() as site:
        await apply(site.store, report(), heartbeat())
        page = Page(chrome, site)

        def look() -> list[float]:
            found = []
            for dark in (False, True):
                page.open("/", dark=dark)
                page.until("1 RUNNING")
                colors = page.run(
                    "['#main h1', '.dim, caption', '.good', '.bad', 'th a', 'body']"
                    ".map((e) => getComputedStyle(document.querySelector(e)))"
                    ".map((s, at) => at < 5 ? s.color : s.backgroundColor)"
                )
                *texts, ground = [_luminance(color) for color in colors]
                found += [(max(t, ground) + 0.05) / (min(t, ground) + 0.05) for t in texts]
            return found

        contrasts = await asyncio.to_thread(look)
    assert min(contrasts) >= 4.5


def _luminance(color: str) -> float:
    """Relative luminance, as WCAG defines it."""
    parts = [int(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


async def test_dead_letters_are_replayed(chrome: Chrome) -> None:
    """Those that are chosen, and the page says what became of them."""
    async with running(TOKEN) as site:
        await bury(site.queue, 2)
        page = Page(chrome, site)

        def replay() -> None:
            page.open("/letters")
            page.until("There are 2.")
            page.driver.find_element(By.CSS_SELECTOR, "tbody input").send_keys(Keys.SPACE)
            button = page.driver.find_element(By.XPATH, "//button[text()='Replay chosen']")
            page.wait(button.is_enabled)
            button.send_keys(Keys.ENTER)
            page.until("replayed 1")
            page.until("There are 1.")

        await asyncio.to_thread(replay)
        assert len(await site.queue.dead_letters(10)) == 1


async def test_what_cannot_be_looked_at_is_said(chrome: Chrome) -> None:
    """Beside what was known before; and a page that has lost its server says so."""
    async with running() as site:
        await apply(site.store, report())
        page = Page(chrome, site)
        await asyncio.to_thread(page.open, "/")
        await asyncio.to_thread(page.until, "1 RUNNING")
        await site.queue.aclose()
        await asyncio.to_thread(page.until, "closed")
        assert "1 RUNNING" in page.text
    state = "document.getElementById('state').textContent"
    await asyncio.to_thread(page.wait, lambda: "not connected" in page.run(state))
