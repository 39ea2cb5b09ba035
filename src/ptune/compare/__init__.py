"""Many methods on the same data, with honest figures: baselines, comparison, robustness, the report.

Names are looked up when first used: what needs no model loads none.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ptune.compare.contender import Contender, Fitted, Registry, Setup
    from ptune.compare.first_advice import DataFacts, advise, data_facts
    from ptune.compare.guard import Earlier, behind, below_bar, guarded_row, read_earlier, read_results
    from ptune.compare.jobs import run_jobs
    from ptune.compare.recommendation import Recommendation, recommend
    from ptune.compare.report import write_report
    from ptune.compare.results import Row, Summary
    from ptune.compare.run import Outcome, run_comparison
    from ptune.compare.spec import CompareSettings, Spec, make_spec, read_spec
    from ptune.compare.statistics import Difference, Estimate, compare, estimate
    from ptune.compare.summary import summarise

_FILE_OF = {
    "CompareSettings": "spec",
    "Contender": "contender",
    "DataFacts": "first_advice",
    "Difference": "statistics",
    "Earlier": "guard",
    "Estimate": "statistics",
    "Fitted": "contender",
    "Outcome": "run",
    "Recommendation": "recommendation",
    "Registry": "contender",
    "Row": "results",
    "Setup": "contender",
    "Spec": "spec",
    "Summary": "results",
    "advise": "first_advice",
    "behind": "guard",
    "below_bar": "guard",
    "compare": "statistics",
    "data_facts": "first_advice",
    "estimate": "statistics",
    "guarded_row": "guard",
    "make_spec": "spec",
    "read_earlier": "guard",
    "read_results": "guard",
    "read_spec": "spec",
    "recommend": "recommendation",
    "run_comparison": "run",
    "run_jobs": "jobs",
    "summarise": "summary",
    "write_report": "report",
}

__all__ = [
    "CompareSettings",
    "Contender",
    "DataFacts",
    "Difference",
    "Earlier",
    "Estimate",
    "Fitted",
    "Outcome",
    "Recommendation",
    "Registry",
    "Row",
    "Setup",
    "Spec",
    "Summary",
    "advise",
    "behind",
    "below_bar",
    "compare",
    "data_facts",
    "estimate",
    "guarded_row",
    "make_spec",
    "read_earlier",
    "read_results",
    "read_spec",
    "recommend",
    "run_comparison",
    "run_jobs",
    "summarise",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module 'ptune.compare' has no attribute {name!r}")
    value = getattr(import_module(f"ptune.compare.{_FILE_OF[name]}"), name)
    globals()[name] = value
    return value
