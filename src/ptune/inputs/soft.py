"""Which row of the prompt every learned token of a template uses.

In: a template and a tokenizer (words given to a soft token decide how many rows it has). Out: `SoftLayout`. Nodes that share
an id share rows; `same` makes all tokens of a node one row.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ptune.errors import TemplateError
from ptune.inputs.tokens import Tokens
from ptune.template import Soft, Template

__all__ = ["SoftLayout", "soft_layout"]


@dataclass(frozen=True)
class SoftLayout:
    """Rows of the prompt by place.

    Args:
        rows_of_node: for each soft node of the template (by its index), the row of each of its tokens.
        init_ids: for each row, the token id it should start from, or None where the template does not say.
    """

    rows_of_node: Mapping[int, tuple[int, ...]]
    init_ids: tuple[int | None, ...]

    @property
    def num_rows(self) -> int:
        """P, the number of different learned rows."""
        return len(self.init_ids)

    @property
    def num_tokens(self) -> int:
        """How many learned tokens one rendered text holds (shared rows count each time)."""
        return sum(len(rows) for rows in self.rows_of_node.values())


def soft_layout(template: Template, tokens: Tokens) -> SoftLayout:
    """Numbers the learned rows of a template in reading order.

    Raises:
        TemplateError: soft nodes that share an id differ in length, or words give no token.
    """
    rows_of_node: dict[int, tuple[int, ...]] = {}
    rows_of_name: dict[str, tuple[int, ...]] = {}
    init_ids: list[int | None] = []
    for index, node in template.soft_nodes:
        words = tokens.ids(node.words) if node.words else ()
        if node.words and not words:
            raise TemplateError(f"the words {node.words!r} of a soft token have no tokens", where="template")
        count = node.count if node.count is not None else len(words)
        if node.name is not None and node.name in rows_of_name:
            rows_of_node[index] = _shared_rows(node, rows_of_name[node.name], count)
            continue
        num_new = 1 if node.same else count
        first = len(init_ids)
        init_ids.extend(words[i % len(words)] if words else None for i in range(num_new))
        rows = (first,) * count if node.same else tuple(range(first, first + num_new))
        rows_of_node[index] = rows
        if node.name is not None:
            rows_of_name[node.name] = rows
    return SoftLayout(rows_of_node, tuple(init_ids))


def _shared_rows(node: Soft, rows: tuple[int, ...], count: int) -> tuple[int, ...]:
    if count not in (len(rows), 1):
        raise TemplateError(
            f"soft tokens with id={node.name} have {len(rows)} tokens in one place and {count} in another",
            where="template",
            fix="give both the same number",
        )
    return rows
