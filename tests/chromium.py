"""What tests in a real Chromium begin with: reasons to skip where something is missing, and patience.

Imported before anything of playwright or fastrtc is: a module that imports this is skipped without them.
"""

import pytest

pytest.importorskip("fastrtc", reason="the page needs fastrtc")
pytest.importorskip("playwright", reason="drives the browser")

from playwright.async_api import Browser, CDPSession, Page, expect

from tests.browser import CHROMIUM

__all__ = ["IN_CHROMIUM", "Browser", "CDPSession", "Page", "expect"]

expect.set_options(timeout=60_000)  # a busy machine is not a failure

IN_CHROMIUM = [
    pytest.mark.xdist_group("browsers"),  # one at a time, where tests run side by side
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}"),
    pytest.mark.timeout(400),
]
