"""Writing text with a frozen model: the most probable one, beams or samples, with stop words, whole or piece by piece."""

from ptune.decode.beams import search_beams
from ptune.decode.flow import Flow
from ptune.decode.lines import Line, choose, follow, write_lines
from ptune.decode.settings import DecodeSettings, Written
from ptune.decode.steps import CausalSteps, DecoderSteps, RecomputedSteps, Steps
from ptune.decode.text import TextPieces

__all__ = [
    "CausalSteps",
    "DecodeSettings",
    "DecoderSteps",
    "Flow",
    "Line",
    "RecomputedSteps",
    "Steps",
    "TextPieces",
    "Written",
    "choose",
    "follow",
    "search_beams",
    "write_lines",
]
