"""Negation: one statement of a text is turned round, a negated one first.

The right answer may turn too, so only changed answers count. English: an auxiliary verb gets or loses `not`. Chinese: 不 or 没
goes in front of what was said, or is taken away. Texts without such a place stay as they are and are not counted.
"""

import random
import re

from ptune.compare.stress.perturbation import Perturbations

__all__ = ["negated", "negated_in_chinese"]

_ALREADY = re.compile(
    r"\b(is|are|was|were|do|does|did|has|have|had|will|would|can|could|should|ca|wo) ?(?:n['’]t|not)\b", re.IGNORECASE
)
_WHOLE = {"ca": "can", "wo": "will"}
"""What is left of can't (in some corpora ca n't) and won't."""
_PLAIN = re.compile(r"\b(is|are|was|were|will|would|can|could|should)\b(?!['’])", re.IGNORECASE)
_CHINESE_ALREADY = re.compile(r"(不|没有|没)(?=[好错行满值得喜欢推荐方便舒服干净快])")
_CHINESE_PLAIN = re.compile(r"(很|非常|特别|挺|真)(?=[一-鿿])|(?<![不没])(值得|喜欢|推荐|满意|好用|好吃|好看)")


def negated(text: str, draw: random.Random) -> str:
    """`is` becomes `is not` and the reverse, once."""
    if match := _ALREADY.search(text):
        return text[: match.start()] + _whole(match[1]) + text[match.end() :]
    if match := _PLAIN.search(text):
        return text[: match.end()] + (" NOT" if match[0].isupper() and len(match[0]) > 1 else " not") + text[match.end() :]
    return text


def _whole(verb: str) -> str:
    """`ca` is `can`, `wo` is `will`, others are as they stand."""
    whole = _WHOLE.get(verb.lower())
    if whole is None:
        return verb
    return whole.upper() if verb.isupper() else whole.capitalize() if verb[0].isupper() else whole


def negated_in_chinese(text: str, draw: random.Random) -> str:
    """很好 becomes 不好 and the reverse, once."""
    if match := _CHINESE_ALREADY.search(text):
        return text[: match.start()] + text[match.end() :]
    if match := _CHINESE_PLAIN.search(text):
        return text[: match.start()] + "不" + (match[2] or "") + text[match.end() :]
    return text


Perturbations.add("negation", ("negation", "否定"), negated, ("en",), keeps_label=False)
Perturbations.add("negation-zh", ("negation", "否定"), negated_in_chinese, ("zh",), keeps_label=False)
