"""A real Chromium for tests: pages that note what goes wrong in them and whom they talk to."""

import re
import shutil
from typing import Any, ClassVar
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.live_server import LiveServerTest

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENCE_MS = 30_000
# What Chromium writes to the console about every answer of 400 and above, expected or not.
_STATUS = re.compile(r"Failed to load resource: the server responded with a status of (\d{3})")


class Watched:
    """A page in a browser context of its own.

    Args:
        options: of the context, for example `java_script_enabled=False` or `color_scheme="dark"`.
    """

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1200, "height": 1000}} | options))
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.troubles: list[str] = []  # console errors and warnings (a violated policy is one), uncaught exceptions
        self.statuses: list[int] = []  # answers of 400 and above
        self.hosts: set[str] = set()
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.troubles.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if found := _STATUS.match(message.text):
            self.statuses.append(int(found[1]))
        else:
            self.troubles.append(message.text)


class BrowserTest(LiveServerTest):
    """A test class whose tests share a browser and a live server."""

    browser: ClassVar[Browser]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        chromium = shutil.which("chromium")
        if chromium is None:
            raise AssertionError("Chromium is not installed; 'make tools' installs it")
        playwright = cls.enterClassContext(sync_playwright())
        cls.browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        cls.addClassCleanup(cls.browser.close)

    def watched(self, **options: Any) -> Watched:
        """A new page that is closed after the test."""
        watched = Watched(self.browser, **options)
        self.addCleanup(watched.context.close)
        return watched
