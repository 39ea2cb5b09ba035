"""Prompt methods: each one file, found by name."""

from ptune.prompt import hard, p_tuning, p_tuning_v2, prefix_tuning, prompt_tuning
from ptune.prompt.candidates import CandidatePrompts, CandidateVariation, vary
from ptune.prompt.deep import DeepConfig
from ptune.prompt.initialise import InitConfig, InitialisationKind, InitSources, initial_rows
from ptune.prompt.method import (
    MethodConfig,
    PromptMethod,
    PromptSetup,
    StoredPrompt,
    build_prompt,
    method_names,
    parse_method,
    register,
    registration,
)
from ptune.prompt.rate import embedding_rate

__all__ = [
    "CandidatePrompts",
    "CandidateVariation",
    "DeepConfig",
    "InitConfig",
    "InitSources",
    "InitialisationKind",
    "MethodConfig",
    "PromptMethod",
    "PromptSetup",
    "StoredPrompt",
    "build_prompt",
    "embedding_rate",
    "hard",
    "initial_rows",
    "method_names",
    "p_tuning",
    "p_tuning_v2",
    "parse_method",
    "prefix_tuning",
    "prompt_tuning",
    "register",
    "registration",
    "vary",
]
