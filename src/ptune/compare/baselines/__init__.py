"""Baselines: one file each, found by name; what they need from elsewhere is imported when they run."""

from ptune.compare.baselines import (  # noqa: I001  # the order of the reports
    majority,
    tfidf,
    word_vectors,
    linear_probe,
    setfit,
    fine_tuning,
    peft_methods,
)

__all__ = ["fine_tuning", "linear_probe", "majority", "peft_methods", "setfit", "tfidf", "word_vectors"]
