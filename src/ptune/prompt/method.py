"""What a prompt method is, and the list of those that there are.

A method is one file: its `Config` (pydantic, the keys of `method:` in a recipe), its module (`PromptMethod`), and one
`register` line. The rest of ptune knows methods only through `build_prompt`, so that a new one needs no change elsewhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from ptune.errors import PromptError
from ptune.inputs import BackboneSpec, Encoded, Place, Prefix, PromptState, SoftLayout, StackSpec
from ptune.template import Soft, Template

__all__ = [
    "MethodConfig",
    "PromptMethod",
    "PromptSetup",
    "Registration",
    "StoredPrompt",
    "build_prompt",
    "method_names",
    "parse_method",
    "register",
]


class MethodConfig(BaseModel):
    """Keys that every method understands; a method's own `Config` adds to them.

    Args:
        name: the method's registered name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str


@dataclass(frozen=True)
class PromptSetup:
    """What a method gets to build its module from.

    Args:
        spec: the backbone's sizes.
        layout: which learned row stands where.
        start: [P, E] rows that initialisation chose.
        seed: for whatever else is drawn.
        stacks: the attention stacks that learn keys and values, of a deep method.
        deep_start: [2, N, H_kv, P, K] keys and values that they start from, where initialisation chose some.
    """

    spec: BackboneSpec
    layout: SoftLayout
    start: Float[Tensor, "P E"]
    seed: int
    stacks: Mapping[Place, StackSpec] = field(default_factory=dict)
    deep_start: Mapping[Place, Float[Tensor, "2 _ _ _ _"]] = field(default_factory=dict)


class PromptMethod(nn.Module, ABC):
    """Learned parameters that turn into a `PromptState` at each step.

    `learning_rate` is the default for AdamW: a number that is sane for a user who sets nothing.
    """

    @abstractmethod
    def forward(self) -> PromptState:
        """The prompt as the backbone takes it."""

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """Default learning rate (AdamW)."""


class StoredPrompt(PromptMethod):
    """A trained prompt as a bundle holds it: nothing learns here any more.

    Args:
        rows: [P, E], [J, P, E] of an ensemble, or None where no token is learned.
        deep: [2, N, H_kv, P, K] keys and values of each attention stack that has some.
        gates: [N, H_kv] of those that have gates.
        num_positions: see `PromptState`.
    """

    rows: Tensor | None

    def __init__(
        self,
        rows: Float[Tensor, "*J P E"] | None,
        deep: Mapping[Place, Float[Tensor, "2 _ _ _ _"]] | None = None,
        gates: Mapping[Place, Float[Tensor, "_ _"]] | None = None,
        *,
        num_positions: int = 0,
    ) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self._places: tuple[Place, ...] = tuple(deep or {})
        for place, both in (deep or {}).items():
            self.register_buffer(f"deep_{place}", both)
            self.register_buffer(f"gate_{place}", (gates or {}).get(place))
        self._num_positions = num_positions

    def forward(self) -> PromptState:
        """The prompt as it is."""
        prefixes: dict[Place, Prefix] = {}
        for place in self._places:
            both, gate = getattr(self, f"deep_{place}"), getattr(self, f"gate_{place}")
            assert isinstance(both, Tensor)
            prefixes[place] = Prefix.of(both, gate if isinstance(gate, Tensor) else None)
        return PromptState(self.rows, prefixes, self._num_positions)

    @property
    def learning_rate(self) -> float:
        """Nothing to learn."""
        return 0.0


@dataclass(frozen=True)
class Registration:
    """One registered method.

    Args:
        config: its Config class.
        build: (config, setup) -> module.
        template: (config, template) -> the template with the method's own learned tokens in it, or an error.
        num_lead: (config) -> how many template nodes stand in front of the text's start token.
        num_deep: (config) -> positions that the learned tokens of each layer take up; 0 where tokens of the text are learned.
        deep_from: (config, a row) -> the first of the row's tokens that sees them, None for all.
        learns: whether it has parameters at all.
    """

    config: type[MethodConfig]
    build: Callable[[Any, PromptSetup], PromptMethod]
    template: Callable[[Any, Template], Template]
    num_lead: Callable[[Any], int]
    num_deep: Callable[[Any], int]
    deep_from: Callable[[Any, Encoded], int | None]
    learns: bool


class _Registry:
    methods: ClassVar[dict[str, Registration]] = {}


def register(
    name: str,
    config: type[MethodConfig],
    build: Callable[[Any, PromptSetup], PromptMethod],
    *,
    template: Callable[[Any, Template], Template],
    num_lead: Callable[[Any], int] = lambda config: 0,
    num_deep: Callable[[Any], int] = lambda config: 0,
    deep_from: Callable[[Any, Encoded], int | None] = lambda config, encoded: None,
    learns: bool = True,
) -> None:
    """Makes a method known by name."""
    _Registry.methods[name] = Registration(config, build, template, num_lead, num_deep, deep_from, learns)


def method_names() -> tuple[str, ...]:
    """Registered names, sorted."""
    return tuple(sorted(_Registry.methods))


def parse_method(value: str | Mapping[str, Any] | MethodConfig) -> MethodConfig:
    """A method's config from a recipe: `p-tuning`, or `{name: p-tuning, encoder: lstm}`.

    Raises:
        PromptError: unknown method, key or value.
    """
    if isinstance(value, MethodConfig):
        return value
    if not isinstance(value, str | Mapping):
        raise PromptError(f"{value!r} is no prompt method", where="method", fix=f"use one of {', '.join(method_names())}")
    keys = {"name": value} if isinstance(value, str) else dict(value)
    name = keys.get("name")
    if not isinstance(name, str) or name not in _Registry.methods:
        close = get_close_matches(str(name), method_names(), 1)
        fix = f"did you mean {close[0]}?" if close else f"use one of {', '.join(method_names())}"
        raise PromptError(f"there is no prompt method {name!r}", where="method", fix=fix)
    try:
        return _Registry.methods[name].config(**keys)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["method", *map(str, first["loc"])])
        known = ", ".join(_Registry.methods[name].config.model_fields)
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            close = get_close_matches(str(first["loc"][-1]), _Registry.methods[name].config.model_fields, 1)
            message = f"there is no such setting; did you mean {close[0]}?" if close else "there is no such setting"
        got = f" (got {first['input']!r})" if first["loc"] else ""
        raise PromptError(f"{message}{got}", where=where, fix=f"{name} has {known}") from None


def registration(config: MethodConfig) -> Registration:
    """The registration behind a config."""
    return _Registry.methods[config.name]


def build_prompt(config: MethodConfig, setup: PromptSetup) -> PromptMethod:
    """The method's module."""
    return registration(config).build(config, setup)


def needs_soft(template: Template, name: str) -> Template:
    """The template as it is, for methods whose learned tokens the user places.

    Raises:
        PromptError: there is none.
    """
    if not template.has_soft:
        raise PromptError(
            f"the template has no learned tokens, which {name} needs",
            where="template",
            fix='put {soft:8} where they should stand, as in "{text}{soft:8} It was{mask}"; for classification, words will do',
        )
    return template


def has_no_soft(template: Template, name: str) -> Template:
    """The template as it is, for methods that place learned tokens themselves or have none.

    Raises:
        PromptError: the template places some.
    """
    if template.has_soft:
        raise PromptError(
            f"the template has learned tokens ({{soft}}), which {name} does not take",
            where="template",
            fix="use method: p-tuning, or take them out",
        )
    return template


def soft_nodes(count: int, words: str | None) -> tuple[Soft, ...]:
    """One soft node of `count` tokens."""
    return (Soft(count=count, words=words),)
