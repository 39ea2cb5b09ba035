"""What a row of data is once it has been read: named text fields, perhaps a label, and where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Example", "FieldValue", "LabelSet"]

FieldValue = str | tuple[str, ...]


@dataclass(frozen=True)
class Example:
    """One labelled or unlabelled row.

    Args:
        fields: every column but the label, as text (a list of texts stays a tuple).
        label: the label as a string, or None where the row has none.
        where: file and line (`train.jsonl:12`) or `row 12`, for error messages.
    """

    fields: Mapping[str, FieldValue]
    label: str | None = None
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class LabelSet:
    """The labels of a task in a fixed order; `index` turns a label into its class number."""

    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def index(self, label: str) -> int:
        return self.names.index(label)
