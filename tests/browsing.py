"""The machine's own browser, and a visit to a page: what it asked for, and what it complained of."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Scrollbars take room on Linux and Windows; a page that is drawn as it grows gets one halfway.
_NOT_AS_READERS_HAVE_IT = ["--hide-scrollbars"]

_LOAD_TIMEOUT_MS = 180_000  # two busy cores draw the charts slowly


def launched() -> Iterator[Browser]:
    """A browser; skips the test where there is none."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        reason = f"No browser: none of {', '.join(BROWSERS)} is on PATH."
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=executable, args=ARGUMENTS, ignore_default_args=_NOT_AS_READERS_HAVE_IT
        )
        yield launched
        launched.close()


class Visit:
    """An open page, with everything that it complained of or asked for."""

    def __init__(self, browser: Browser, file: Path, *, width: int, scheme: str, height: int = 900) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append("dialog"), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        # A refusal by the content-security policy is an event of the document, wherever it is reported.
        self.page.add_init_script(
            "window.violations = [];"
            "addEventListener('securitypolicyviolation', event => violations.push(event.violatedDirective));"
        )
        self.page.goto(file.as_uri(), timeout=_LOAD_TIMEOUT_MS)
        # Not wait_for_function: it polls by eval, which the page's policy refuses.
        expect(self.page.locator(".chart:not(:has(.main-svg))")).to_have_count(0)
