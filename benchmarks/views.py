"""From a key press to the new picture: every view in JupyterLab, in Chromium.

python -m benchmarks.views

For each view on the page of all views a control is moved by the keyboard, back and forth. The time runs in
the browser, from the key's event to the animation frame after the picture has changed. Needs Chromium, a
quiet machine and about two minutes.
"""

import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.common import provenance, store
from tests.browser import lab

_PRESSES = 40
_CLOCK = """view => {
    window.took = [];
    view.addEventListener('keydown', () => { window.began = performance.now(); }, true);
    new MutationObserver(() => {
        const picture = view.querySelector('img').src;
        if (picture === window.shown) return;
        window.shown = picture;
        if (window.began === null) return;  // a late picture, of no press that is being timed
        const began = window.began;
        window.began = null;
        requestAnimationFrame(() => window.took.push(performance.now() - began));
    }).observe(view, {subtree: true, childList: true, attributes: true});
    window.shown = view.querySelector('img').src;
    window.began = null;
}"""


def main() -> None:
    about = provenance(
        what="milliseconds from a key press to the new picture, views with their default data",
        data="stored runs, toy problems and digits",
        command="python -m benchmarks.views",
    )
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        lab.server(Path(folder)) as address,
        lab.browser() as page,
    ):
        lab.open_notebook(page, address, "views")
        lab.run_all(page)
        for name in lab.VIEWS:
            took = pd.Series(_measured(page, name))
            rows.append([name, took.median(), took.quantile(0.95), took.max(), len(took)])
            print(f"{name:16} median {took.median():4.0f} ms, 95 % under {took.quantile(0.95):4.0f} ms")
    columns = ["view", "median_ms", "p95_ms", "longest_ms", "presses"]
    pd.DataFrame(rows, columns=columns).round(1).to_csv(store("views", about) / "table.csv", index=False)


def _measured(page, name):
    """Milliseconds of each press: arrows on the first slider, or Enter on two buttons in turn."""
    view = lab.find_view(page, name)
    view.evaluate(_CLOCK)
    handle = view.locator(".noUi-handle:visible").first
    buttons = view.locator(".widget-toggle-buttons:visible button")
    for press in range(_PRESSES):
        if handle.count():
            handle.focus()
            page.keyboard.press("ArrowRight" if press // 3 % 2 else "ArrowLeft")
        else:
            buttons.nth(press % 2).focus()
            page.keyboard.press("Enter")
        page.wait_for_timeout(400)
    return page.evaluate("() => window.took")


if __name__ == "__main__":
    main()
