"""Drive the real JupyterLab, as `orthoviz lab` starts it, in the real Chromium."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

import orthoviz as ov

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


ROOT = Path(__file__).resolve().parents[2]
HANG = 120_000
"""Milliseconds after which something hangs: no test depends on how fast the machine is."""
expect.set_options(timeout=HANG)


@contextmanager
def server(folder, *, dark=False, notebook7=False, root=ROOT, start=None):
    """`orthoviz lab --no-browser`; its settings in ``folder``, its autosave off. Yields the address.

    It runs the package of the checkout ``root``, and starts in ``start``, by default in ``folder``.
    With ``notebook7`` it is Notebook 7, as `jupyter notebook` starts it in a folder with the page of views.
    """
    config, settings = folder / "config", folder / "settings"
    config.mkdir()
    exposed = "c.{}.expose_app_in_browser = True\n"
    (config / "jupyter_lab_config.py").write_text(exposed.format("LabApp"))
    (config / "jupyter_notebook_config.py").write_text(exposed.format("JupyterNotebookApp"))
    for extension, plugin, settings_of in (
        ("docmanager", "plugin", '{"autosave": false}'),
        ("apputils", "themes", f'{{"theme": "JupyterLab {"Dark" if dark else "Light"}"}}'),
    ):
        place = settings / "@jupyterlab" / f"{extension}-extension"
        place.mkdir(parents=True)
        (place / f"{plugin}.jupyterlab-settings").write_text(settings_of)
    command = ["orthoviz", "lab"]
    if notebook7:
        shutil.copy(ROOT / "notebooks" / "views.ipynb", folder)
        command = ["notebook", "--allow-root", f"--ServerApp.root_dir={folder}"]
        shutil.rmtree(settings)  # Notebook 7 does not know them
    environment = {
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "ORTHOVIZ_DATA": str(folder / "data"),
        "PYTHONPATH": str(root),
    }
    log = folder / "server.log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", *command, "--no-browser"],
            cwd=start or folder,
            env={**os.environ, **environment},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield wait(lambda: re.search(r"http://127\.0\.0\.1:\S+", log.read_text()), log.read_text).group()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


_running = []
"""Playwright and its Chromium: a process has one of it, so pages that are open together share it."""


@contextmanager
def browser(width=1280, height=1000):
    """A page; its console errors are in ``page.errors``."""
    first = not _running
    if first:
        playwright = sync_playwright().start()
        _running[:] = playwright, playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
    context = _running[1].new_context(viewport={"width": width, "height": height})
    page = context.new_page()
    page.set_default_timeout(HANG)
    page.errors = []
    page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    try:
        yield page
    finally:
        context.close()
        if first:
            playwright, chromium = _running
            chromium.close()
            playwright.stop()
            _running.clear()


def open_notebook(page, address, name):
    """Open a notebook with a kernel of its own and wait until it is there."""
    base, token = re.match(r"(http://[^/]+)/.*[?&](token=\w+)", address).groups()
    for session in json.load(urllib.request.urlopen(f"{base}/api/sessions?{token}")):
        end = urllib.request.Request(f"{base}/api/sessions/{session['id']}?{token}", method="DELETE")
        urllib.request.urlopen(end)
    address = re.sub(r"/lab[^?]*", f"/lab/tree/{name}.ipynb", address)
    address = re.sub(r"/tree\?", f"/notebooks/{name}.ipynb?", address)
    page.goto(f"{address}&reset")  # without the tabs of an earlier test
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel")
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )


def write_cells(page, *sources):
    """Put these code cells in place of the notebook's; nothing is saved."""
    page.evaluate(
        """sources => {
            const model = window.jupyterapp.shell.currentWidget.content.model;
            const empty = {cell_type: 'code', metadata: {}, outputs: [], execution_count: null};
            model.fromJSON({...model.toJSON(), cells: sources.map(source => ({...empty, source}))});
        }""",
        sources,
    )


def run_all(page, timeout=HANG):
    """Run all cells, to the end or to the first that fails."""
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')", None)
    page.wait_for_function(
        """() => {
            const panel = window.jupyterapp.shell.currentWidget;
            const cells = panel.content.widgets.filter(cell => cell.model.type === 'code');
            const failed = panel.content.node.querySelector('.jp-RenderedText[data-mime-type*=error]');
            return (failed || cells.every(cell => cell.model.executionCount)) &&
                panel.sessionContext.session.kernel.status === 'idle';
        }""",
        timeout=timeout,
    )


def save(page):
    """Save the notebook, as Ctrl-S does."""
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")


def show_cell(page, text):
    """Scroll to the code cell that holds this text: cells out of sight are not in the page."""
    page.evaluate(
        """async text => {
            const notebook = window.jupyterapp.shell.currentWidget.content;
            const holds = cell => cell.model.type === 'code' && cell.model.sharedModel.source.includes(text);
            await notebook.scrollToItem(notebook.widgets.findIndex(holds), 'center');
        }""",
        text,
    )


VIEWS = [name for name in ov.widgets.__all__ if name != "theme"]


def find_view(page, name):
    """A view on the page of all views, scrolled to."""
    show_cell(page, f"widgets.{name}()")
    view = page.locator(".jp-OutputArea-output", has=page.locator(f".orthoviz-{name}")).first
    view.scroll_into_view_if_needed()
    return view


def ask_kernel(page, code):
    """What the notebook's kernel prints for a line of code."""
    return page.evaluate(
        """async code => {
            const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
            const future = kernel.requestExecute({code, store_history: false});
            let text = '';
            future.onIOPub = message => {
                if (message.header.msg_type === 'stream') text += message.content.text;
            };
            await future.done;
            return text;
        }""",
        code,
    )


def wait(condition, explain=lambda: ""):
    """The condition's first true value."""
    end = time.monotonic() + HANG / 1000
    while not (value := condition()):
        assert time.monotonic() < end, explain()
        time.sleep(0.05)
    return value
