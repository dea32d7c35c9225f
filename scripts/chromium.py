"""A page of headless Chromium, driven by its debugging protocol. Needs the package `websockets`."""

import base64
import json
import re
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from websockets.sync.client import connect


class Page:
    """A page of headless Chromium, by its debugging protocol."""

    def __init__(self, chromium, url, folder):
        self.url, self.folder, self.number = url, Path(folder), 0
        self.folder.mkdir(parents=True, exist_ok=True)
        self.profile = tempfile.TemporaryDirectory()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={self.profile.name}"]
        self.process = subprocess.Popen([chromium, *flags, "about:blank"], stderr=subprocess.PIPE, text=True)
        for line in self.process.stderr:
            if found := re.search(r"ws://[^/]+", line):
                host = found.group().removeprefix("ws://")
                break
        with urllib.request.urlopen(f"http://{host}/json") as response:
            target = next(page for page in json.load(response) if page["type"] == "page")
        self.socket = connect(target["webSocketDebuggerUrl"], max_size=None)
        self.problems = []
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        # Events of focus come only to a page that has it.
        self.send("Emulation.setFocusEmulationEnabled", enabled=True)
        self.resize(1280, 900)

    def send(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(message["params"]["exceptionDetails"].get("exception", {}).get("description", "exception"))
            if message.get("id") == self.number:
                if "error" in message:
                    raise AssertionError(message["error"])
                return message["result"]

    def run(self, script):
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def until(self, script, seconds=60):
        """Waits until a script gives something true."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # An element has no value, and is there.
            if value := self.run(f"(() => {{ const value = {script}; return value instanceof Element || value; }})()"):
                return value
            time.sleep(0.05)
        raise AssertionError(f"{script} did not become true; the page says: {self.run('document.body.innerText')[:400]}")

    def go(self, address):
        self.run(f"location.hash = {json.dumps(address)}")

    def text(self):
        return self.run("document.getElementById('main').innerText")

    def key(self, key, code=None, text=None):
        codes = {"Enter": 13, "ArrowRight": 39, "ArrowLeft": 37, "Tab": 9, "Escape": 27}
        common = {"key": key, "code": code or key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        self.send("Input.insertText", text=text)

    def click(self, selector, words=None):
        test = "true" if words is None else f"e.innerText.trim().startsWith({json.dumps(words)})"
        self.until(f"[...document.querySelectorAll({json.dumps(selector)})].some(e => {test} && !e.disabled)")
        self.run(f"[...document.querySelectorAll({json.dumps(selector)})].find(e => {test} && !e.disabled).dispatchEvent(new MouseEvent('click', {{bubbles: true, cancelable: true}}))")

    def resize(self, width, height):
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def shoot(self, name):
        for scheme in ("light", "dark"):
            self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
            picture = self.send("Page.captureScreenshot", format="png")["data"]
            (self.folder / f"{name}-{scheme}.png").write_bytes(base64.b64decode(picture))

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=20)
        self.profile.cleanup()
