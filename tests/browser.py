"""A browser for tests: Chromium without a window, where one is installed with its driver."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

MISSING = "no browser: install Chromium and its chromedriver"

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    # It asks its makers nothing.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


class Programs(NamedTuple):
    """Where they are."""

    chromium: str
    driver: str


def programs() -> Programs | None:
    """The browser and what drives it, if both are installed."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return Programs(chromium, driver) if chromium and driver else None


@contextmanager
def running(found: Programs) -> Iterator[webdriver.Chrome]:
    """A browser without a history; it is ended on leaving."""
    with tempfile.TemporaryDirectory(prefix="osmo-browser-", ignore_cleanup_errors=True) as folder:
        options = webdriver.ChromeOptions()
        options.binary_location = found.chromium
        for flag in (*_FLAGS, f"--user-data-dir={folder}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service(found.driver))
        try:
            yield driver
        finally:
            driver.quit()
