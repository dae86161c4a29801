"""How `make site` makes the pages: all lessons executed in quick mode, to be read without a network."""

import os
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from executed import folder  # noqa: E402

ROOT = HERE.parent
LESSONS = HERE / "lessons"  # Sphinx reads only what lies below this file
EXECUTED = folder()
_OFFLINE = metadata.distribution("sphinx-mathjax-offline")
MATHJAX = _OFFLINE.locate_file("sphinx-mathjax-offline/static/mathjax/tex-svg-full.js")  # one file, no fonts


shutil.rmtree(LESSONS, ignore_errors=True)
shutil.copytree(ROOT / "notebooks", LESSONS, ignore=shutil.ignore_patterns("*.py", ".*", "__pycache__"))
for lesson in LESSONS.glob("*.ipynb"):  # a badge's picture lies on the network: its words will do
    text = lesson.read_text(encoding="utf-8")
    lesson.write_text(re.sub(r"\[!\[(.+?)\]\(.+?\)\]", r"[\1]", text), encoding="utf-8")
for earlier in EXECUTED.parent.glob("*"):
    if earlier != EXECUTED:
        shutil.rmtree(earlier)
os.environ |= {"ORTHOVIZ_MODE": "quick", "ORTHOVIZ_DATA": str(HERE / "_build" / "no-data")}  # digits, always

project = "orthoviz"
author = "the orthoviz contributors"
version = metadata.version("orthoviz")
extensions = ["myst_nb"]
exclude_patterns = ["_build", "lessons/lecturer/questions.md"]  # that page has the exam's solutions
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

# An executed notebook is kept until its code changes, or what decides what it shows.
nb_execution_mode = "cache"
nb_execution_cache_path = str(EXECUTED)
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_show_tb = True  # a failure is a warning, with which the build fails
nb_merge_streams = True
nb_render_markdown_format = "myst"  # with tables, as the ledger's
nb_output_stderr = "warn"
# A page has no kernel: the picture that a widget brings along takes its place.
nb_mime_priority_overrides = [("html", "text/html", 0)]

html_theme = "furo"
html_title = "orthoviz"
html_static_path = ["style.css", str(MATHJAX)]
html_css_files = ["style.css"]
html_show_copyright = False
pygments_dark_style = "github-dark"
html_copy_source = html_use_index = False
html_show_search_summary = False  # it would fetch the pages found, which a browser refuses for files
mathjax_path = MATHJAX.name


def setup(app):
    """Leave out the state of widgets and the scripts, from the network, that would bring them to life."""
    app.connect("doctree-read", lambda app, _: app.env.nb_metadata[app.env.docname].pop("js_files", None))
