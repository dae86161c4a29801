"""How `orthoviz lab` starts JupyterLab: no questions and no look-ups before the first lesson."""

import json
from pathlib import Path

c = get_config()  # noqa: F821
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
# the notebooks' text sources stand beside them and would only confuse
c.ContentsManager.hide_globs = ["*.py", "__pycache__", ".*", "*~"]
# an exported page has no kernel: a view is then its picture
exporting = json.loads(Path(__file__).with_name("jupyter_nbconvert_config.json").read_text("utf-8"))
c.NbConvertBase.display_data_priority = exporting["NbConvertBase"]["display_data_priority"]
