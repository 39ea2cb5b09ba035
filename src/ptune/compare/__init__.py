"""Many methods on the same data, with honest figures: baselines, comparison, robustness, the report."""

from ptune.compare.statistics import Difference, Estimate, compare, estimate

__all__ = ["Difference", "Estimate", "compare", "estimate"]
