"""A headless Chromium for pictures and tests of pages."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poyo_jax.errors import MissingDependencyError

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """Start a browser of playwright.

    Raises MissingDependencyError where playwright or a Chromium is absent.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MissingDependencyError(
            f"pages need playwright ({error}); run: pip install playwright"
        ) from error
    with sync_playwright() as driver:
        path = next(filter(None, map(shutil.which, NAMES)), driver.chromium.executable_path)
        if not Path(path).exists():
            raise MissingDependencyError(
                "there is no Chromium here; install one, or run: playwright install chromium"
            )
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
