"""A trained task on disk, and its exchange with other tools."""

from ptune.bundle.bundle import CARD, Bundle, read_bundle
from ptune.bundle.convert import bundle_of, model_of
from ptune.bundle.incoming import Imported, import_prompt
from ptune.bundle.lost_in_export import Exported
from ptune.bundle.model_card import MODEL_CARD, model_card
from ptune.bundle.outgoing import export_peft
from ptune.bundle.prompt_embeds import export_prompt_embeds
from ptune.bundle.prompt_tensors import deep_tensors
from ptune.bundle.push import num_shown_texts, push_bundle
from ptune.bundle.vocabulary import export_vocabulary

__all__ = [
    "CARD",
    "MODEL_CARD",
    "Bundle",
    "Exported",
    "Imported",
    "bundle_of",
    "deep_tensors",
    "export_peft",
    "export_prompt_embeds",
    "export_vocabulary",
    "import_prompt",
    "model_card",
    "model_of",
    "num_shown_texts",
    "push_bundle",
    "read_bundle",
]
