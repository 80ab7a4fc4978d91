"""A headless Chromium: the system's, or Playwright's own where it was downloaded."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, Locator, Page, sync_playwright

from backend.demo.stack import Stack

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def open_browser() -> Iterator[Browser]:
    """A browser; skips where there is none."""
    names = ("chromium", "google-chrome", "chromium-browser")
    executable = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        except Error as err:
            pytest.skip(
                f"no browser: install chromium or run `playwright install chromium` ({str(err).splitlines()[0]})"
            )
        yield browser
        browser.close()


@contextmanager
def logged_in(stack: Stack) -> Iterator[Page]:
    """A page of a browser that is logged in to Label Studio; skips where there is no browser."""
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"{stack.label_studio_url}/user/login")
        page.fill("input[name=email]", stack.login.email)
        page.fill("input[name=password]", stack.login.password)
        page.press("input[name=password]", "Enter")
        page.wait_for_url(lambda url: "/user/login" not in url, wait_until="domcontentloaded")
        yield page


def submit_button(page: Page) -> Locator:
    """The editor's Submit, by its role and name: releases before 1.22 gave their buttons no ids."""
    return page.get_by_role("button", name=re.compile(r"^submit( current annotation)?$", re.IGNORECASE))


def label_all_tasks(page: Page) -> Locator:
    """The Data Manager's button that starts the label stream."""
    return page.get_by_role("button", name=re.compile("^Label (All )?Tasks")).first


def accept_suggestions(page: Page) -> Locator:
    """The button that takes what a smart tool suggests: the second one behind their number."""
    return page.get_by_text("1 suggestions").locator("xpath=following::button[2]")
