"""The answer slot inside a row's own text: segments and a marker go in, segments with the slot in the marker's place come out.

Some data mark the gap in the text itself (`#idiom#`, `[MASK]`), so that the slot's place and the white space in front of it
differ from row to row.
"""

from dataclasses import replace

from ptune.errors import TemplateError
from ptune.template.nodes import FieldSegment, MaskSegment, Segment, Segments

__all__ = ["open_gap"]


def open_gap(segments: Segments, marker: str) -> Segments:
    """Puts the answer slot where a field has the marker.

    The two halves of the text stay fields: where the row is too long, each is cut at its far end.

    Args:
        segments: a rendered row without an answer slot.
        marker: as it stands in the data.

    Returns:
        The segments; the slot's `leading` is the white space that stood in front of the marker, and the word that fills it is
        taken as it is (`raw`).

    Raises:
        TemplateError: no field has the marker, or it stands there more than once.
    """
    count = sum(segment.text.count(marker) for segment in segments if isinstance(segment, FieldSegment))
    if count != 1:
        what = f"the row has no gap {marker!r}" if count == 0 else f"the row has {count} gaps {marker!r}"
        raise TemplateError(what, where="gap", fix="mark one place in the text of each row")
    opened: list[Segment] = []
    for segment in segments:
        if not isinstance(segment, FieldSegment) or marker not in segment.text:
            opened.append(segment)
            continue
        left, right = segment.text.split(marker)
        bare = left.rstrip()
        opened.append(replace(segment, text=bare, trim="head"))
        opened.append(MaskSegment(left[len(bare) :], raw=True))
        opened.append(replace(segment, text=right, trim="tail"))
    return tuple(opened)
