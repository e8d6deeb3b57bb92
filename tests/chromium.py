"""A headless Chromium driven over its DevTools pipe, without a driver or a Python package.

Commands and events: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    "--remote-debugging-pipe",
)
_KEYS = {"Enter": (13, "\r"), " ": (32, " "), "Tab": (9, None), "ArrowRight": (39, None), "End": (35, None)}


class Chromium:
    """One page. Use as a context manager; `events` collects what the browser reports."""

    def __init__(self):
        program = shutil.which("chromium") or shutil.which("google-chrome")
        if program is None:
            raise AssertionError("Chromium is missing; install it with: apt-get install chromium")
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command_read, self._write = os.pipe()
        self._read, answer_write = os.pipe()
        # The browser takes commands from descriptor 3 and answers on 4; ours are moved out of their way.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (command_read, answer_write)]
        arguments = [program, *_FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[1]}', "bash", *arguments],
            pass_fds=ends,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (command_read, answer_write, *ends):
            os.close(end)
        self._number, self._buffer, self._session = 0, b"", None
        self.events: list[dict] = []
        target = next(t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.send("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def send(self, method: str, timeout_s: float = 60.0, **parameters) -> dict:
        """Send one command and return its result; RuntimeError if the browser refuses it or is silent."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + timeout_s
        while True:
            answer = self._next(until)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def _next(self, until: float) -> dict:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0]:
                raise RuntimeError("Chromium did not answer in time")
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError("Chromium has ended")
            self._buffer += part
        text, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(text)

    def open(self, url: str, width: int, height: int = 900) -> None:
        """Load a page at a window size and wait until it has been drawn."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        self.send("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str):
        """Value of a JavaScript expression."""
        result = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"]["exception"].get("description"))
        return result["result"].get("value")

    def wait_for(self, condition: str, timeout_s: float = 30.0) -> None:
        until = time.monotonic() + timeout_s
        while not self.run(condition):
            if time.monotonic() > until:
                raise AssertionError(f"never true on the page: {condition}")
            time.sleep(0.05)

    def press(self, key: str) -> None:
        code, text = _KEYS[key]
        common = {"key": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def middle(self, selector: str) -> list[float]:
        """Scroll an element into view and return its middle."""
        return self.run(
            "(e => { e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )

    def click(self, selector: str) -> None:
        """Click the middle of an element with the mouse."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def move_mouse(self, x: float, y: float) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, file: Path, whole: bool = True) -> None:
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        Path(file).write_bytes(base64.b64decode(data))

    def requests(self) -> list[str]:
        """Every address that was asked for."""
        return [e["request"]["url"] for e in self._reported("Network.requestWillBeSent")]

    def _reported(self, method: str) -> list[dict]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def errors(self) -> list[str]:
        """Uncaught exceptions and whatever the console shows as an error or a warning."""
        thrown = [e["exceptionDetails"] for e in self._reported("Runtime.exceptionThrown")]
        logged = [e["entry"] for e in self._reported("Log.entryAdded")]
        called = self._reported("Runtime.consoleAPICalled")
        return [
            *(details.get("exception", {}).get("description", "exception") for details in thrown),
            *(entry["text"] for entry in logged if entry["level"] in ("error", "warning")),
            *(str(call["args"]) for call in called if call["type"] in ("error", "warning", "assert")),
        ]
