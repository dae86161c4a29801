"""All lessons in JupyterLab, from top to bottom: none fails, warns, sticks out or needs too much memory.

How long each takes is printed; `orthoviz doctor --time` holds it against its budget.
"""

import json
import runpy
import time

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

from tests.browser import lab
from tests.browser.test_lab import clean, fits, works

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(lab.CHROMIUM is None, reason="no Chromium on this machine"),
]

LESSONS = sorted(path.stem for path in (lab.ROOT / "notebooks").glob("[0-9]*.ipynb"))
VIEWS = {  # how their cell and their picture's alternative text begin; the key that moves them
    "02_toy_problems": (
        ("loss_valley()", "Step 45", "ArrowLeft"),
        ("step_size_lens()", "loss", "ArrowRight"),
    ),
    "03_without_the_svd": (("widgets.newton_schulz(", "After 5 Jordan steps", "ArrowLeft"),),
    "04_do_filters_learn_the_same": (
        ("flattening()", "3 rows in 2 dimensions", "ArrowRight"),
        ("dead_filters()", "Filter 3", "ArrowLeft"),
    ),
}
CODE = """() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells
    .filter(cell => cell.cell_type === 'code')"""


def keep(name, code):
    """Keep an executed lesson for the site, which does not execute it again."""
    notebook = nbformat.read(lab.ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell, run in zip(cells, code, strict=True):
        cell.outputs = nbformat.from_dict(run["outputs"])
        cell.execution_count = run["execution_count"]
    place = runpy.run_path(str(lab.ROOT / "site" / "executed.py"))["folder"]()
    get_cache(place).cache_notebook_bundle(CacheBundleIn(notebook, name), overwrite=True)


def test_they_are_numbered_in_a_row():
    numbers = [name[:2] for name in LESSONS if not name.endswith("_appendix")]
    assert numbers == [f"{number:02}" for number in range(13)]


@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_runs_from_top_to_bottom(address, name):
    with lab.browser() as page:
        lab.open_notebook(page, address, name)
        began = time.monotonic()
        lab.run_all(page, timeout=900_000)
        seconds = time.monotonic() - began
        page.wait_for_timeout(500)
        clean(page)
        fits(page)
        code = page.evaluate(CODE)
        outputs = [nbformat.from_dict(out) for cell in code for out in cell["outputs"]]
        memory = int(lab.ask_kernel(page, "import resource; print(resource.getrusage(0).ru_maxrss)")) / 1e6
        for cell, alt, key in VIEWS.get(name, ()):
            lab.show_cell(page, cell)
            works(page, alt, key)
        clean(page)
    assert outputs
    assert not [out for out in outputs if out["output_type"] == "error" or out.get("name") == "stderr"]
    html = json.dumps([out["data"].get("text/html", "") for out in outputs if "data" in out])
    assert html.count("<img") == html.count("alt=")
    print(f"{name}: {seconds:.0f} s, {memory:.1f} GB")
    assert memory < 3
    keep(name, code)
