"""Problems of a few lines: those that a step solves, and those that showed something after the paper.

Start reading at :mod:`~orthoviz.toys.problems`; :mod:`~orthoviz.toys.later` has the experiments of 2025 and
2026.
"""

from orthoviz.toys.later import (
    RULES,
    clipped_step,
    decayed_norm,
    half_square,
    margins,
    never_arrives,
    rare_facts,
    unseen_pairs,
)
from orthoviz.toys.problems import (
    MODES,
    DeepLinear,
    MatrixQuadratic,
    Problem,
    RankOne,
    TeacherStudent,
    descend,
    steps_until,
)

__all__ = [
    "MODES", "RULES", "DeepLinear", "MatrixQuadratic", "Problem", "RankOne", "TeacherStudent", "clipped_step",
    "decayed_norm", "descend", "half_square", "margins", "never_arrives", "rare_facts", "steps_until",
    "unseen_pairs",
]  # fmt: skip
