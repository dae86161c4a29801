"""Give the lessons their badges and install cell, or take them away; `make badges` brings the pairs in step.

Both are made from the one address in pyproject.toml, ``repository``. While that is empty no lesson has them.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_BADGES = """\
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]\
(https://colab.research.google.com/github/{project}/blob/main/notebooks/{lesson}.ipynb)
# [![Open in Binder](https://mybinder.org/badge_logo.svg)]\
(https://mybinder.org/v2/gh/{project}/HEAD?labpath=notebooks/{lesson}.ipynb)
#
"""
_INSTALL = """\
# %% tags=["install", "remove-cell"]
# Installs the course where it is missing, as on Colab: a minute or two, once a session.
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("orthoviz") is None:
    address = "git+https://github.com/{project}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", address], check=True)

"""
_EARLIER = re.compile(
    r'^(# \[!\[Open in .*\n)+#\n|^# %% tags=\["install", "remove-cell"\]\n(?s:.*?)(?=^# %%)', re.MULTILINE
)


def with_badges(source: str, lesson: str, repository: str) -> str:
    """A lesson's source with badges under its title and the install cell before its first code.

    Args:
        source: percent format; it may have those of an earlier address.
        lesson: its name, such as ``"00_start_here"``.
        repository: ``https://github.com/OWNER/PROJECT``, or empty: then there are none.

    Raises:
        ValueError: the address has another form.
    """
    source = _EARLIER.sub("", source)
    if not repository:
        return source
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", repository)
    if found is None:
        raise ValueError(f"repository must be https://github.com/OWNER/PROJECT or empty, got {repository!r}")
    names = {"project": found[1], "lesson": lesson}
    title, first_code = re.compile("^# # .*\n#\n", re.MULTILINE), re.compile("^# %%\n", re.MULTILINE)
    source = title.sub(lambda old: old[0] + _BADGES.format(**names), source, count=1)
    return first_code.sub(lambda old: _INSTALL.format(**names) + old[0], source, count=1)


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    try:
        for path in [*ROOT.glob("notebooks/[0-9]*.py"), ROOT / "notebooks" / "views.py"]:
            old = path.read_text(encoding="utf-8")
            new = with_badges(old, path.stem, project["tool"]["orthoviz"]["repository"])
            if new != old:
                path.write_text(new, encoding="utf-8")
    except ValueError as error:
        print(f"pyproject.toml, tool.orthoviz: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
