"""Research on a model's own data: what local calibration saves, told with everything that was measured.

A study judges no engine, opens no gate set, and leaves nothing behind but its report.
"""

from __future__ import annotations

from regiolect.study.data import Draws
from regiolect.study.report import markdown_study, write_study
from regiolect.study.result import StudyCell, StudyRegion, StudyResult, StudySaving, Verdict
from regiolect.study.run import run_study

__all__ = [
    "Draws",
    "StudyCell",
    "StudyRegion",
    "StudyResult",
    "StudySaving",
    "Verdict",
    "markdown_study",
    "run_study",
    "write_study",
]
