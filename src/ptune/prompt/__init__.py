"""Prompt methods: each one file, found by name."""

from ptune.prompt import hard, p_tuning, prompt_tuning
from ptune.prompt.candidates import CandidatePrompts, CandidateVariation, vary
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
    "parse_method",
    "prompt_tuning",
    "register",
    "registration",
    "vary",
]
