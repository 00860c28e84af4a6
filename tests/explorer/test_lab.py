"""Views in a JupyterLab that runs: its keys, its theme, its trust.

Other tests imitate what JupyterLab does to an output; here it does it. No kernel is
started: the notebook is written with its outputs, and signed as one that was run here.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec

import nbformat
import pytest
from nbformat.sign import NotebookNotary, SignatureStore

from tests.explorer.test_group import view as group
from tests.explorer.test_tokens import answer
from vgpo.explorer.tokens import token_view

PATIENCE = 60.0  # seconds; a machine may be busy with other things
PNG = b"\x89PNG of a view"

pytestmark = pytest.mark.skipif(
    find_spec("jupyterlab") is None, reason="JupyterLab is not installed"
)


def notebook(first: str) -> nbformat.NotebookNode:
    """Two views as outputs of cells, between cells of text."""
    made = nbformat.v4.new_notebook()
    made.metadata["kernelspec"] = {"name": "none", "display_name": "none"}
    made.cells.append(nbformat.v4.new_markdown_cell(first))
    for view in (token_view(answer(), picture=PNG), group(still=PNG)):
        data = view._repr_mimebundle_()
        output = nbformat.v4.new_output("execute_result", data, execution_count=1)
        cell = nbformat.v4.new_code_cell("view", outputs=[output], execution_count=1)
        made.cells.append(cell)
    made.cells.append(nbformat.v4.new_markdown_cell("after"))
    return made


@contextmanager
def running(folder, environment):
    """A JupyterLab over a folder; its address."""
    options = ["--no-browser", "--allow-root", "--port=0", "--ip=127.0.0.1"]
    options += ["--IdentityProvider.token=", f"--ServerApp.root_dir={folder}"]
    options += ["--LabApp.expose_app_in_browser=True", "--LabApp.news_url="]
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told = folder.parent / "runtime" / f"jpserver-{server.pid}.json"
        end = time.monotonic() + PATIENCE
        while not told.exists():
            if server.poll() is not None or time.monotonic() > end:
                raise RuntimeError("JupyterLab did not start")
            time.sleep(0.05)
        yield json.loads(told.read_text())["url"]
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """A page with the signed notebook open, and the notebook's file."""
    base = tmp_path_factory.mktemp("lab")
    folder = base / "notebooks"
    folder.mkdir()
    names = ("CONFIG", "DATA", "RUNTIME")
    own = {f"JUPYTER_{name}_DIR": str(base / name.lower()) for name in names}
    own |= {
        "JUPYTERLAB_SETTINGS_DIR": str(base / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(base / "workspaces"),
    }
    signed = notebook("signed")
    nbformat.write(signed, folder / "signed.ipynb")
    nbformat.write(notebook("foreign"), folder / "foreign.ipynb")
    (base / "data").mkdir()
    store = NotebookNotary(data_dir=str(base / "data"))
    store.sign(nbformat.read(folder / "signed.ipynb", 4))
    assert isinstance(store.store, SignatureStore)
    store.store.close()
    with running(folder, os.environ | own) as address:
        page = browser.open(f"{address}lab?reset")
        page.wait("window.jupyterapp?.commands.hasCommand('docmanager:open')")
        page.evaluate("window.jupyterapp.restored.then(() => 1)")
        yield page, folder, address


def opened(page, name: str) -> str:
    """Opens a notebook without a kernel; a selector of its panel."""
    page.evaluate(
        "window.jupyterapp.commands.execute('docmanager:open', {"
        f"path: {json.dumps(name)}, factory: 'Notebook',"
        "kernelPreference: {shouldStart: false, canStart: false}}).then(() => 1)"
    )
    panel = ".jp-NotebookPanel:not(.lm-mod-hidden)"
    page.wait(f"document.querySelectorAll('{panel} .vgpo-view').length === 2")
    return panel


def cells(page, panel: str) -> tuple[int, int]:
    """How many cells there are, and which of them is the active one."""
    found = f"[...document.querySelectorAll('{panel} .jp-Cell')]"
    active = f"{found}.findIndex(one => one.classList.contains('jp-mod-active'))"
    return tuple(page.evaluate(f"[{found}.length, {active}]"))


def test_in_jupyterlab(lab):
    page, folder, address = lab
    panel = opened(page, "signed.ipynb")
    page.wait(f"document.querySelectorAll('{panel} [data-vgpo-ready]').length === 2")

    # The whole of each output is there, and only the notebook scrolls.
    inner = page.evaluate(
        f"[...document.querySelectorAll('{panel} .jp-OutputArea-output')]"
        ".filter(one => one.scrollHeight > one.clientHeight + 1"
        " || one.scrollWidth > one.clientWidth + 1).length"
    )
    assert inner == 0

    # Plain keys are the view's: no cell is cut, none is left for another.
    page.click(f'{panel} .vgpo-token[data-t="3"]')
    before = cells(page, panel)
    assert before == (4, 1)
    for key in ("ArrowRight", "ArrowDown", "ArrowUp", "x", "d", "d", "b"):
        page.key(key)
    assert cells(page, panel) == before
    assert page.texts(f"{panel} .vgpo-which")[0].endswith("of 10")
    page.click(f"{panel} .vg-rollouts .vg-word")
    for key in ("ArrowRight", "ArrowDown", "x"):
        page.key(key)
    assert cells(page, panel) == (4, 2)

    # Chords are the notebook's.
    file = folder / "signed.ipynb"
    written = file.stat().st_mtime_ns
    page.key("s", held=["Control"])
    end = time.monotonic() + PATIENCE
    while file.stat().st_mtime_ns == written and time.monotonic() < end:
        page.settle()
    assert file.stat().st_mtime_ns > written

    # Its theme counts, not the system's.
    page.prefer("light")
    inks = []
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        page.evaluate(
            "window.jupyterapp.commands.execute('apputils:change-theme',"
            f"{{theme: {json.dumps(theme)}}}).then(() => 1)"
        )
        light = json.dumps(str(theme.endswith("Light")).lower())
        page.wait(f"document.body.dataset.jpThemeLight === {light}")
        inks.append(page.style(f"{panel} .vgpo-view", "color"))
    assert inks == ["rgb(227, 230, 234)", "rgb(31, 35, 40)"]

    # Of a notebook that nobody has vouched for no script runs: what stands still is
    # shown, with its picture, and says why.
    panel = opened(page, "foreign.ipynb")
    told = "\n".join(page.texts(f"{panel} .vgpo-still"))
    assert told.count("trusted") == 2 and "focus" in told
    count = "document.querySelectorAll('{} {}').length"
    assert page.evaluate(count.format(panel, "[data-vgpo-started]")) == 0
    assert page.evaluate(count.format(panel, ".vgpo-still img")) == 2

    own = (address, address.replace("http", "ws", 1))
    assert not [one for one in page.requests if not one.startswith(own)]
    assert not [one for one in page.complaints if "vgpo" in one]
