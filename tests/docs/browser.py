"""Headless Chromium, driven by its own protocol: open a page, ask it, and hear what it logs and loads."""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

import websocket

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SECONDS = 30.0  # the longest wait for one answer; a page of ours takes below a second


def chromium() -> str | None:
    """The program, where the machine has one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One tab; use it as a context manager.

    Attributes:
        faults: console errors, uncaught exceptions and failed loads of the current page.
        loaded: every address that the current page asked for.
    """

    def __init__(self, program: str) -> None:
        self.faults: list[str] = []
        self.loaded: list[str] = []
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        options = (
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--remote-debugging-port=0", "--remote-allow-origins=*"),
            f"--user-data-dir={self._folder.name}",
        )
        self._process = subprocess.Popen(
            [program, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._number = 0
        self._socket = websocket.create_connection(self._address(), timeout=SECONDS)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(SECONDS)
        self._folder.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = self._next()
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        """Show a page on a screen of this size, and wait until it has loaded."""
        self.faults, self.loaded = [], []
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.send("Page.navigate", url=address)
        while self._next().get("method") != "Page.loadEventFired":
            pass
        self.run("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        result = self.send(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + SECONDS
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"not within {SECONDS} s: {script}"
            time.sleep(0.05)
        return value

    def press(self, key: str, code: int) -> None:
        """Press and release a key that prints nothing, such as an arrow."""
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        self.send("Input.insertText", text=text)

    def _address(self) -> str:
        """Where the tab listens, as soon as the program has written its port."""
        path, end = Path(self._folder.name, "DevToolsActivePort"), time.monotonic() + SECONDS
        while not (path.exists() and path.read_text().count("\n")):
            assert self._process.poll() is None, "Chromium ended"
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.05)
        port = path.read_text().splitlines()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=SECONDS) as answer:
            tabs = json.load(answer)
        return next(str(tab["webSocketDebuggerUrl"]) for tab in tabs if tab["type"] == "page")

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv())
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, values: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.loaded.append(values["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.faults.append(str(values["exceptionDetails"]))
        elif method == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.faults.append(f"{values['entry']['text']} {values['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and values["type"] in ("error", "warning", "assert"):
            self.faults.append(str(values["args"]))
