"""The exercises of all lessons: how each is judged, and its hints.

The stubs stand in the notebooks, worked solutions and typical wrong answers in ``notebooks/solutions``.
"""

from orthoviz.course.exercises import diagnostics, experiments, foundations, theories

EXERCISES = {**foundations.EXERCISES, **diagnostics.EXERCISES, **experiments.EXERCISES, **theories.EXERCISES}
