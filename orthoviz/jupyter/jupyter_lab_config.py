"""How `orthoviz lab` starts JupyterLab: no questions and no look-ups before the first lesson."""

c = get_config()  # noqa: F821
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
# the notebooks' text sources stand beside them and would only confuse
c.ContentsManager.hide_globs = ["*.py", "__pycache__", ".*", "*~"]
