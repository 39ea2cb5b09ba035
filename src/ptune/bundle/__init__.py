"""A trained task on disk."""

from ptune.bundle.bundle import CARD, Bundle, read_bundle
from ptune.bundle.convert import bundle_of, model_of

__all__ = ["CARD", "Bundle", "bundle_of", "model_of", "read_bundle"]
