"""The console page in a headless Chromium, as a test sees it: by its `data-test` attributes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

T = TypeVar("T")

PATIENCE_SECONDS = 15
POLL_SECONDS = 0.05
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
)
# What the browser brings along itself; everything else a page loads counts.
OWN_SCHEMES = ("data", "blob", "chrome", "about")


class Arrival(NamedTuple):
    """One entry of a pane's log: the event's name, its kind and its payload."""

    name: str
    kind: str
    payload: Any


@contextmanager
def chromium(profile: Path) -> Iterator[webdriver.Chrome]:
    """Run Chromium with an empty profile; without one the test is skipped, or fails where CI is set."""
    binary = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver_binary = shutil.which("chromedriver")
    if binary is None or driver_binary is None:
        no_browser("chromium and chromedriver are needed on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_binary))
    try:
        yield driver
    finally:
        driver.quit()


def no_browser(reason: str) -> NoReturn:
    """Skip the test, or fail it where CI is set."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def selector(path: str) -> str:
    """Return the CSS selector for `data-test` names from the outside in, separated by spaces."""
    return " ".join(f"[data-test='{name}']" for name in path.split())


class Console:
    """The page at `url`. Paths are those of `selector`."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, *, width: int = 1280, height: int = 800, dark: bool = False) -> None:
        """Load the page in a window of that size, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(self.url)
        self.find("users login-alice")

    def find(self, path: str) -> WebElement:
        """Wait for an element."""
        found = self.until(lambda: self.driver.find_elements(By.CSS_SELECTOR, selector(path)), f"{path} to be there")
        return found[0]

    def read(self, path: str, member: str) -> Any:
        """Return a member of an element, in one step: between two, the page may have drawn it anew."""
        script = "const element = document.querySelector(arguments[0]); return element && [element[arguments[1]]]"
        found = self.until(lambda: self.driver.execute_script(script, selector(path), member), f"{path} to be there")
        return found[0]

    def text(self, path: str) -> str:
        return str(self.read(path, "innerText"))

    def enabled(self, path: str) -> bool:
        return not self.read(path, "disabled")

    def click(self, path: str) -> None:
        """Click an element once it is enabled."""

        def clicked() -> bool:
            element = self.find(path)
            if usable := element.is_enabled():
                # The driver takes what is behind the masthead for visible.
                self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
                element.click()
            return usable

        self.until(clicked, f"{path} to be clickable")

    def log_in(self, user: str) -> None:
        self.click(f"login-{user}")
        self.until(lambda: self.pressed(f"login-{user}"), f"{user} to be logged in")

    def connect(self) -> None:
        """Connect both panes."""
        self.click("connect-both")
        for pane in ("v5", "v4"):
            self.shows(f"pane-{pane} state", "connected")

    def join(self, pane: str, room: str) -> None:
        """Join a room of a pane, and wait until it is shown as joined."""
        path = f"pane-{pane} room-{room}"
        self.click(path)
        self.until(lambda: self.pressed(path), f"{path} to be joined")

    def make(self, change: str, status: int = 200) -> None:
        """Make a change by its button, and wait for the answer with that status."""
        before = len(self.requests())
        self.click(f"trigger-{change}")
        self.until(lambda: len(self.requests()) > before, f"an answer to {change}")
        assert self.requests()[0] == str(status), self.text("requests")

    def requests(self) -> list[str]:
        """Return the statuses in the log of requests, newest first."""
        script = "return [...document.querySelectorAll(arguments[0])].map((status) => status.textContent)"
        return list(self.driver.execute_script(script, selector("requests status")))

    def pressed(self, path: str) -> bool:
        return bool(self.read(path, "ariaPressed") == "true")

    def choose(self, select: str, value: str) -> None:
        """Choose an option of a select by its value."""
        self.find(select).find_element(By.CSS_SELECTOR, f"option[value='{value}']").click()

    def name_as_emitter(self, pane: str) -> None:
        """Choose the pane whose socket id the requests carry, or "nobody"."""
        self.find(f"emitter-{pane}").find_element(By.XPATH, "..").click()

    def shows(self, path: str, text: str) -> None:
        """Wait until an element shows exactly that text."""
        self.until(lambda: self.text(path) == text, f"{path} to show {text!r}")

    def arrivals(self, pane: str) -> list[Arrival]:
        """Return what arrived in a pane, oldest first, without the page's own notes."""
        script = """
            const entries = document.querySelectorAll(`[data-test="pane-${arguments[0]}"] [data-test="entry"]`);
            return [...entries].reverse().filter((entry) => entry.dataset.kind !== "note").map((entry) => [
                entry.querySelector("[data-test=name]").textContent,
                entry.dataset.kind,
                entry.querySelector("[data-test=payload]")?.textContent || "null",
            ]);
        """
        return [
            Arrival(name, kind, json.loads(payload)) for name, kind, payload in self.driver.execute_script(script, pane)
        ]

    def events(self, pane: str) -> list[str]:
        """Return the names of the events that arrived in a pane, oldest first, without replies and refusals."""
        return [arrival.name for arrival in self.arrivals(pane) if arrival.kind not in ("reply", "refusal")]

    def arrived(self, pane: str, name: str) -> Any:
        """Wait for an event of that name in a pane and return its newest payload."""
        found = self.until(lambda: [one for one in self.arrivals(pane) if one.name == name], f"{name} in {pane}")
        return found[-1].payload

    def until(self, condition: Callable[[], T], what: str) -> T:
        """Wait until `condition` holds and return what it returned."""
        wait = WebDriverWait(
            self.driver,
            PATIENCE_SECONDS,
            poll_frequency=POLL_SECONDS,
            ignored_exceptions=[StaleElementReferenceException],
        )
        return wait.until(lambda _: condition(), f"waited for {what}")

    def at_rest(self) -> None:
        """Wait until nothing on the page moves or fades."""
        moving = "return document.getAnimations().length"
        self.until(lambda: self.driver.execute_script(moving) == 0, "the page to be at rest")

    def violations(self, axe: str) -> list[str]:
        """Return what the script of axe-core objects to, each as its rule and the element."""
        self.driver.execute_script(axe)
        script = "const done = arguments[0]; axe.run().then(({ violations }) => done(violations));"
        found = self.driver.execute_async_script(script)
        return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]

    def complaints(self) -> list[str]:
        """Return the errors and warnings of the browser's console since the last call."""
        levels = ("SEVERE", "WARNING")
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in levels]

    def addresses(self) -> set[str]:
        """Return each host and port that the page spoke to since the last call, over HTTP or WebSocket."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [
            message["params"].get("request", message["params"])["url"]
            for message in messages
            if message["method"] in ("Network.requestWillBeSent", "Network.webSocketCreated")
        ]
        return {urlsplit(url).netloc for url in urls if urlsplit(url).scheme not in OWN_SCHEMES}
