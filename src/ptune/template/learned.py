"""A template whose own words in front of the answer are what learns: it starts as exactly the hard template.

In: a template with words between its last field and the mask. Out: the same with these words as learned tokens that start from
themselves; learned tokens without words vanish. Source: hard patterns (Schick & Schütze 2021) as where a prompt starts.
"""

from collections.abc import Sequence

from ptune.errors import TemplateError
from ptune.template.nodes import Choice, Demos, Field, Node, Soft, Text
from ptune.template.template import Template

__all__ = ["has_words_to_learn", "learn_words"]


def learn_words(template: Template) -> Template:
    """The template with the words in front of its answer slot as learned tokens.

    Raises:
        TemplateError: no words stand there.
    """
    hard = template.without_soft()
    text, learned = _split(hard)
    if not any(isinstance(node, Soft) for node in learned):
        raise TemplateError(
            "no words stand between the text and {mask} that could learn",
            where="learn",
            fix='write some, as in "{text} It was{mask}", or set learn: tokens',
        )
    return Template((*text, *learned, *hard.nodes[len(hard.before_mask()) :]))


def has_words_to_learn(template: Template) -> bool:
    """Whether words stand between the text and the answer slot."""
    return template.num_masks > 0 and any(isinstance(node, Soft) for node in _split(template.without_soft())[1])


def _split(hard: Template) -> tuple[Sequence[Node], list[Node]]:
    """What stands in front of the answer slot: up to the row's last text, and what follows with words as learned tokens."""
    front = hard.before_mask()
    last = max((i for i, node in enumerate(front) if isinstance(node, Field | Choice | Demos)), default=-1)
    return front[: last + 1], _learned(front[last + 1 :], is_at_start=last < 0)


def _learned(nodes: Sequence[Node], *, is_at_start: bool) -> list[Node]:
    """Each text as learned tokens, the space that belongs to the label word left outside."""
    out: list[Node] = []
    for number, node in enumerate(nodes):
        if not isinstance(node, Text) or not node.text.strip():
            out.append(node)
            continue
        bare = node.text.rstrip() if number == len(nodes) - 1 else node.text
        out.append(Soft(count=None, words=bare.lstrip() if is_at_start and not number else bare))
        if bare != node.text:
            out.append(Text(node.text[len(bare) :]))
    return out
