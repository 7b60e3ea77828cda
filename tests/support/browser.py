"""A real browser for the tests: Chromium without a window, driven through a pipe by its DevTools protocol."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from database_servers import missing

KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowRight": 39, "ArrowLeft": 37}


class Browser:
    """One tab; scripts run in it, keys are pressed and pictures taken."""

    def __init__(self, write: int, read: int):
        self.write, self.read, self.number, self.rest, self.session = write, read, 0, b"", None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")

    def call(self, method: str, **parameters) -> dict:
        """Send a command and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (found := self._receive()).get("id") != self.number:
            self.events.append(found)
        assert "error" not in found, found
        return found["result"]

    def _receive(self) -> dict:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read], [], [], 120)
            assert ready, "the browser does not answer"
            part = os.read(self.read, 1 << 20)
            assert part, "the browser has ended"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def open(self, url: str, width: int = 1200, theme: str = "light", height: int = 900) -> None:
        """Load a page in a window of a width and a theme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str):
        """Return what an expression in the page gives; promises are waited for."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 120) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"{condition} does not come: {self.run('document.body.innerText')}"
            time.sleep(0.05)

    def press(self, *keys: str) -> None:
        """Press keys by their names; other texts are typed."""
        for key in keys:
            if key not in KEYS:
                self.call("Input.insertText", text=key)
                continue
            code = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": KEYS[key]}
            text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
            self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", **code)

    def shoot(self, path: Path) -> None:
        """Take a picture of the whole page."""
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own."""
    if not shutil.which("chromium"):
        missing("Chromium is not installed")
    to_browser, to_us = os.pipe(), os.pipe()
    command = f"exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe --user-data-dir={folder}"
    # The protocol's pipe is file descriptors 3 and 4 of the browser.
    command += f" 3<&{to_browser[0]} 4>&{to_us[1]}"
    process = subprocess.Popen(
        ["bash", "-c", command], pass_fds=(to_browser[0], to_us[1]), stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    os.close(to_browser[0])
    os.close(to_us[1])
    try:
        yield Browser(to_browser[1], to_us[0])
    finally:
        process.terminate()
        process.wait(30)
        os.close(to_browser[1])
        os.close(to_us[0])
