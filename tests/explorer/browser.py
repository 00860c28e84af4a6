"""A page in headless Chromium, driven over its DevTools protocol.

    def test_it_opens(browser, tmp_path):
        page = browser.open(view.save(tmp_path / "view.html"))
        page.click("button")
        assert page.evaluate("document.title") == "..."
        page.check()  # nothing on the console, no request to anywhere

Mouse and keys are the browser's own events, so that what covers an element, or has
taken the focus, is noticed.
"""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import websocket

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--mute-audio",
    "--remote-debugging-port=0",
    "--remote-allow-origins=*",
]
PATIENCE = 60.0  # seconds; a machine may be busy with other things

# Key names of the protocol: code and number, as a keyboard sends them.
KEYS = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Home": 36,
    "End": 35,
    "Escape": 27,
    "Enter": 13,
    "Tab": 9,
    " ": 32,
}


HELD = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}


def chromium() -> str | None:
    """The path of a Chromium, None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Connection:
    """Commands to the browser and events from it, over one socket."""

    def __init__(self, address: str) -> None:
        self.socket = websocket.create_connection(
            address, timeout=PATIENCE, suppress_origin=True
        )
        self.count = 0
        self.hear: Callable[[dict], None] = lambda event: None

    def send(self, method: str, session: str | None = None, **parameters) -> dict:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        self.socket.send(json.dumps(message))
        while True:
            answer = json.loads(self.socket.recv())
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.hear(answer)


class Page:
    """One page: what it did wrong, and hands to touch it with.

    Attributes:
        complaints: Errors and warnings of its console, and errors nobody caught.
        requests: Addresses it asked for, apart from itself and from ``data:`` and
            ``blob:``, which lie inside it.
    """

    def __init__(self, connection: Connection, session: str) -> None:
        self.connection, self.session = connection, session
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.address = ""
        connection.hear = self._hear
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        self.resize(1200, 900)

    def send(self, method: str, **parameters) -> dict:
        return self.connection.send(method, self.session, **parameters)

    def _hear(self, event: dict) -> None:
        if event.get("sessionId") != self.session:
            return
        method, told = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            address = told["request"]["url"]
            own = address.split("#")[0] == self.address
            if not own and not address.startswith(("data:", "blob:")):
                self.requests.append(address)
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            thrown = details.get("exception", {}).get("description")
            self.complaints.append(thrown or details["text"])
        elif method == "Runtime.consoleAPICalled":
            if told["type"] in ("error", "warning", "assert"):
                words = [
                    str(a.get("description", a.get("value"))) for a in told["args"]
                ]
                self.complaints.append(" ".join(words))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(told["entry"]["text"])

    def check(self) -> None:
        """Fails if the page complained or asked for anything."""
        self.evaluate("1")  # events that wait are heard
        assert not self.complaints, "on the console: " + "\n".join(self.complaints)
        assert not self.requests, "asked for: " + " ".join(self.requests)

    def go(self, address: str) -> None:
        """Opens an address and waits until it and its views are ready."""
        self.address = address
        self.send("Page.navigate", url=address)
        self.wait(
            f"location.href.split('#')[0] === {json.dumps(address)}"
            " && document.readyState === 'complete' && ![...document.querySelectorAll("
            "'[data-vgpo-view]')].some(view => !('vgpoReady' in view.dataset)"
            " && !('vgpoFailed' in view.dataset))"
        )

    def evaluate(self, code: str) -> Any:
        """The value of an expression; a promise is waited for."""
        told = self.send(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in told:
            thrown = told["exceptionDetails"].get("exception", {})
            raise RuntimeError(f"{code}: {thrown.get('description')}")
        return told["result"].get("value")

    def wait(self, condition: str) -> None:
        """Until the expression is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.evaluate(f"Boolean({condition})"):
                return
            time.sleep(0.02)
        raise TimeoutError(f"never true: {condition}; complaints: {self.complaints}")

    def settle(self) -> None:
        """Until two frames have been drawn."""
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => "
            "requestAnimationFrame(() => done(1))))"
        )

    def texts(self, selector: str) -> list[str]:
        """The text of each element that matches."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return self.evaluate(f"{found}.map(one => one.textContent)")

    def style(self, selector: str, name: str) -> str:
        """A computed style of the first element that matches."""
        found = f"document.querySelector({json.dumps(selector)})"
        return self.evaluate(f"getComputedStyle({found}).getPropertyValue('{name}')")

    def middle(self, selector: str) -> tuple[float, float]:
        """Where the first element that matches stands, scrolled into sight.

        An inline element that breaks over lines counts by its first piece.
        """
        box = self.evaluate(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            "if (!one) return null;"
            "one.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const box = one.getClientRects()[0];"
            "return box ? [box.x + box.width / 2, box.y + box.height / 2] : []; })()"
        )
        assert box is not None, f"nothing on the page matches {selector!r}"
        assert box, f"{selector!r} is not shown"
        return box[0], box[1]

    def _mouse(self, kind: str, x: float, y: float, **more) -> None:
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def hover(self, selector: str) -> None:
        self._mouse("mouseMoved", *self.middle(selector))
        self.settle()

    def click(self, selector: str, at: tuple[float, float] | None = None) -> None:
        """Presses and lets go; ``at``, if given, is a place of the window."""
        place = at or self.middle(selector)
        self._mouse("mouseMoved", *place)
        for kind in ("mousePressed", "mouseReleased"):
            self._mouse(kind, *place, button="left", clickCount=1)
        self.settle()

    def key(self, name: str, times: int = 1, held: Sequence[str] = ()) -> None:
        """A key of :data:`KEYS`, or a letter, to whatever has the focus, while those
        of :data:`HELD` are held."""
        code = KEYS.get(name, ord(name.upper()) if len(name) == 1 else 0)
        text = {"Enter": "\r", " ": " "}.get(name, name if len(name) == 1 else "")
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self.send(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=name,
                    code=name,
                    windowsVirtualKeyCode=code,
                    modifiers=sum(HELD[one] for one in held),
                    **({"text": text} if text and kind == "keyDown" else {}),
                )
        self.settle()

    def choose(self, selector: str, value: str | float) -> None:
        """Sets a ``select``, a slider or a field, and says so to the page."""
        self.evaluate(
            f"(() => {{ const one = document.querySelector({json.dumps(selector)});"
            f"one.value = {json.dumps(str(value))};"
            "for (const kind of ['input', 'change'])"
            "one.dispatchEvent(new Event(kind, {bubbles: true})); })()"
        )
        self.settle()

    def resize(self, width: int, height: int) -> None:
        """The window in CSS pixels; narrower than 600 is a phone."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, scheme: str) -> None:
        """``"light"`` or ``"dark"``, as the system's setting."""
        wish = {"name": "prefers-color-scheme", "value": scheme}
        self.send("Emulation.setEmulatedMedia", features=[wish])
        self.settle()

    def keys_for_others(self) -> list[str]:
        """What takes the focus in a view, and lets JupyterLab have its keys there:
        Lab asks the element that has the focus whether a key is a command."""
        return self.evaluate(
            "[...document.querySelectorAll('.vgpo-view :is(button, input, select, "
            "summary, [tabindex])')].filter(one => !one.closest('.vgpo-still') && "
            "!one.hasAttribute('data-lm-suppress-shortcuts'))"
            ".map(one => one.outerHTML.slice(0, 80))"
        )

    def alive(self, kind: str, selector: str) -> int:
        """How many elements the page holds that match, in it or thrown away."""
        self.send("HeapProfiler.collectGarbage")
        found = self.send("Runtime.evaluate", expression=f"{kind}.prototype")
        prototype = found["result"]["objectId"]
        listed = self.send("Runtime.queryObjects", prototypeObjectId=prototype)
        told = self.send(
            "Runtime.callFunctionOn",
            objectId=listed["objects"]["objectId"],
            functionDeclaration="function (selector) {"
            "return this.filter(one => one.matches(selector)).length; }",
            arguments=[{"value": selector}],
            returnByValue=True,
        )
        return told["result"]["value"]

    def dress_as_lab(self) -> None:
        """What JupyterLab's style sheet says of an output's lists and paragraphs."""
        self.evaluate(
            "(() => { document.body.classList.add('jp-RenderedHTMLCommon');"
            "const sheet = document.createElement('style'); sheet.textContent = `"
            ".jp-RenderedHTMLCommon dl dt { float: left; width: 20%; }"
            ".jp-RenderedHTMLCommon dl dd { float: left; width: 80%; }"
            ".jp-RenderedHTMLCommon ol:not(.list-inline) { padding-left: 2em; }"
            ".jp-RenderedHTMLCommon ol { list-style: decimal; }"
            ".jp-RenderedHTMLCommon p { margin: 0 0 1em; }`;"
            "document.head.append(sheet); })()"
        )

    def sideways(self) -> int:
        """By how many pixels the page is wider than the window."""
        return self.evaluate(
            "document.documentElement.scrollWidth - "
            "document.documentElement.clientWidth"
        )

    def shoot(self, path: Path, whole: bool = True) -> Path:
        """A picture of the page as PNG."""
        told = self.send("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(told["data"]))
        return path


class Browser:
    """A Chromium without a window."""

    def __init__(self, program: str, profile: Path) -> None:
        self.process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        # The port it has chosen, and the path of its socket.
        told = profile / "DevToolsActivePort"
        end = time.monotonic() + PATIENCE
        while not (told.exists() and told.read_text().count("\n")):
            if self.process.poll() is not None or time.monotonic() > end:
                self.process.kill()
                raise RuntimeError(f"{program} did not start")
            time.sleep(0.05)
        port, path = told.read_text().split("\n")[:2]
        self.connection = Connection(f"ws://127.0.0.1:{port}{path}")
        self.targets: list[str] = []

    def open(self, path: str | Path) -> Page:
        """A file, or an address, in a page of its own."""
        text = str(path)
        address = text if "://" in text else Path(path).resolve().as_uri()
        target = self.connection.send("Target.createTarget", url="about:blank")
        self.targets.append(target["targetId"])
        attached = self.connection.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self.connection, attached["sessionId"])
        page.go(address)
        return page

    def close_pages(self) -> None:
        """All that :meth:`open` has opened; each is a process of its own."""
        while self.targets:
            self.connection.send("Target.closeTarget", targetId=self.targets.pop())

    def close(self) -> None:
        self.connection.socket.close()
        self.process.terminate()
        self.process.wait(timeout=30)
