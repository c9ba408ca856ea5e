"""One demo and one browser for all tests of the console; each test starts with no cookie and a fresh page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

from tests.clients.install import find_node, install_clients
from tests.console.browser import Console, chromium, no_browser
from tests.console.server import Demo


@pytest.fixture(scope="package")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture(scope="package")
def demo(browser: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    running = Demo(tmp_path_factory.mktemp("demo"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="package")
def axe() -> str:
    """The script of axe-core, which finds what assistive technology cannot use."""
    node = find_node()
    if node is None:
        no_browser("axe-core comes from npm, which is needed on the PATH")
    return (install_clients(node) / "node_modules" / "axe-core" / "axe.min.js").read_text()


@pytest.fixture
def console(browser: webdriver.Chrome, demo: Demo) -> Iterator[Console]:
    """Yield the opened page; afterwards it must have complained of nothing and spoken to its own server alone."""
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": demo.url, "storageTypes": "cookies,local_storage"})
    page = Console(browser, demo.url)
    page.open()
    yield page
    complaints, addresses = page.complaints(), page.addresses()
    browser.get("about:blank")
    assert complaints == []
    assert addresses == {demo.netloc}
