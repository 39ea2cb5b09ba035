"""The words in front of the answer in other words, as the model itself puts them.

In: a template and a causal model. Out: templates whose words between text and answer were written anew. Source: Jiang et al.
2020 (How can we know what language models know?), section 4.2, where prompts are translated there and back. Deviation: a
language model is shown what rewording is and goes on, so that no translator is needed; it reads no row.
"""

from collections.abc import Sequence

from ptune.backbone import Backbone
from ptune.data import Example
from ptune.model import GenerationModel
from ptune.strategy.infill import around_gap
from ptune.template import Node, Template, Text, dominant_script

__all__ = ["can_paraphrase", "paraphrase_templates"]

_ASKING = {
    "spaced": (
        "Words: All in all, it was\nIn other words: In the end, it was\n"
        "Words: Does the text say so? The answer is\nIn other words: Is this what the text says? My answer is\n"
        "Words: {words}\nIn other words:{mask}"
    ),
    "unspaced": (
        "原句：总而言之，这是\n换句话说：总的来看，这是\n"
        "原句：文中是这么说的吗？答案是\n换句话说：文章说的是这个意思吗？我的回答是\n"
        "原句：{words}\n换句话说：{mask}"
    ),
}
_TEMPERATURE, _TOP_P = 0.8, 0.9
_TIMES_LONGER = 3
_LEAST_TOKENS = 8
_NUM_POSITIONS = 256


def can_paraphrase(backbone: Backbone) -> bool:
    """Whether the model writes on from what it reads, and reads enough to be shown what rewording is."""
    return backbone.kind == "decoder" and (backbone.spec.max_positions or _NUM_POSITIONS) >= _NUM_POSITIONS


def paraphrase_templates(template: Template, backbone: Backbone, *, count: int, seed: int) -> list[Template]:
    """Templates with other words between text and answer; none where there are no words to put anew.

    Args:
        template: with words in front of its answer slot.
        backbone: causal.
        count: texts to draw; those that say nothing, or the same, are left out.
        seed: of the draws.
    """
    front, mask, behind = around_gap(template)
    gap = template.before_mask()[len(front) :]
    words = "".join(node.text for node in gap if isinstance(node, Text))
    if not words.strip() or not all(isinstance(node, Text) for node in gap):
        return []
    left, right = words[: len(words) - len(words.lstrip())], words[len(words.rstrip()) :]
    found: dict[str, Template] = {}
    for text in _written(words.strip(), backbone, count=count, seed=seed):
        if text != words.strip():
            nodes: Sequence[Node] = (*front, Text(left + text + right), mask, *behind)
            found.setdefault(text, Template(tuple(nodes)))
    return list(found.values())


def _written(words: str, backbone: Backbone, *, count: int, seed: int) -> list[str]:
    """What the model puts in the place of the words, a line each, in the order drawn."""
    num_tokens = max(_LEAST_TOKENS, _TIMES_LONGER * len(backbone.tokens.ids(words)))
    writer = GenerationModel.build(
        backbone=backbone,
        template=_ASKING["unspaced" if dominant_script(words) == "unspaced" else "spaced"],
        method="hard",
        max_new_tokens=num_tokens,
        terminator="\n",
    )
    draws = {"returns": count, "temperature": _TEMPERATURE, "top_p": _TOP_P, "seed": seed}
    (drawn,) = writer.write([Example({"words": words})], writer.settings_of(draws))
    texts = [one.text.strip().strip("\"'“”").strip() for one in drawn if one.reason != "length"]
    return [text for text in texts if text and not set(text) & set("{}\n")]
