"""Slides of lessons for a projector, which need no network: `make slides`, or

    python site/slides.py 00_start_here 01_polar_factor

Executes the lessons in quick mode and writes site/_build/slides/LESSON.html. The slides are the lesson's own
text and pictures: a heading starts one, and what does not fit goes on below it. Of the code only the
exercises' stubs are shown.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import jupytext
import sphinx_revealjs
from nbclient import NotebookClient
from nbconvert import SlidesExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from traitlets.config import Config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUT = HERE / "_build" / "slides"
LESSONS = ("00_start_here", "01_polar_factor", "02_toy_problems", "06_cifar10", "10_why_it_works")
"""Those of the 90-minute class."""
ROOM, PICTURE, FORMULA = 1300, 900, 250
"""How many characters a slide has room for, and how many a picture or a formula takes the place of."""


def build(source: Path, out: Path = OUT) -> Path:
    """Make the slides of a notebook (percent format), and put what they need beside them."""
    notebook = jupytext.read(source)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(source.parent)}})
    digits = {"ORTHOVIZ_MODE": "quick", "ORTHOVIZ_DATA": str(OUT / "no-data")}  # for everybody
    client.execute(env=os.environ | digits)
    config = Config(json.loads((ROOT / "orthoviz/jupyter/jupyter_nbconvert_config.json").read_text()))
    exporter = SlidesExporter(
        config=config, raw_template=(HERE / "slides.html.j2").read_text(), reveal_url_prefix="reveal",
        reveal_theme="white", exclude_input_prompt=True, exclude_output_prompt=True,
        anchor_link_text="",
    )  # fmt: skip
    page, _ = exporter.from_notebook_node(slides(notebook), {"metadata": {"name": source.stem}})
    out.mkdir(parents=True, exist_ok=True)
    reveal = Path(sphinx_revealjs.__file__).parent / "_static" / "revealjs"
    shutil.copytree(reveal / "dist", out / "reveal" / "dist", dirs_exist_ok=True)
    offline = metadata.distribution("sphinx-mathjax-offline")
    shutil.copy(offline.locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg-full.js"), out)
    path = out / f"{source.stem}.html"
    path.write_text(page, encoding="utf-8")
    return path


def slides(notebook: NotebookNode) -> NotebookNode:
    """The cells that are shown, each with where it stands: on a new slide, one below, or the one before."""
    cells, used = [], 0
    for cell, size in _pieces(notebook):
        heading = re.match(r"(#+) ", cell.source) if cell.cell_type == "markdown" else None
        place = "-"
        if heading is not None:
            place = "slide" if len(heading[1]) < 3 else "subslide"
        elif used + size > ROOM:
            place = "subslide"
        used = size if place != "-" else used + size
        if "course.predict(" in cell.source:
            used = ROOM  # the answer is not to be seen beside the question
        cell.metadata["slideshow"] = {"slide_type": place}
        cells.append(cell)
    return new_notebook(cells=cells)  # without the widgets' state, for which a page would fetch code


def _pieces(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, int]]:
    """Paragraphs, exercises as they are set, what else there is to see; each with its size in characters."""
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type == "markdown":
            for paragraph in re.split(r"\n\n+", cell.source):
                yield new_markdown_cell(paragraph), max(len(paragraph), FORMULA * (paragraph[:2] == "$$"))
        elif "exercise" in tags:
            yield cell, 2 * len(cell.source)
        elif "check" not in tags:
            cell.metadata["transient"] = {"remove_source": True}
            cell.outputs = [output for output in cell.outputs if _size(output)]
            if cell.outputs:
                yield cell, sum(map(_size, cell.outputs))


def _size(output: NotebookNode) -> int:
    """Of one output, in characters; a progress bar has none."""
    data = output.get("data", {})
    text = "".join(output.get("text", "") or data.get("text/html", "") or data.get("text/plain", ""))
    if "<img" in text or "image/png" in data:
        return PICTURE
    bar = output.get("name") == "stderr" or (
        "application/vnd.jupyter.widget-view+json" in data and "%|" in text
    )
    return 0 if bar else min(len(text), PICTURE)


def main(names: list[str]) -> None:
    for name in names or LESSONS:
        print(build(ROOT / "notebooks" / f"{name}.py"))


if __name__ == "__main__":
    main(sys.argv[1:])
