"""Ways to learn from few labels: each is recipes run by the usual loop, and what is done between them."""

from ptune.strategy.adapt import Adapted, AdaptSettings, adapt
from ptune.strategy.chain_of_thought import ChainOfThoughtSettings, CotReport, Reasoned, Reasoner, run_chain_of_thought
from ptune.strategy.in_context import InContext, InContextSettings, run_in_context
from ptune.strategy.label_search import FoundLabels, SearchSettings, search_labels
from ptune.strategy.mixture import Mixed, MixtureSettings, run_mixture
from ptune.strategy.pet import PetSettings, run_pet
from ptune.strategy.section import read_section, section_of
from ptune.strategy.template_search import FoundTemplate, FoundTemplates, TemplateSearchSettings, search_template
from ptune.strategy.transfer import SimilarTask, nearest_tasks, task_similarity
from ptune.strategy.word_refinement import RefinedWords, RefineSettings, refine_words

__all__ = [
    "AdaptSettings",
    "Adapted",
    "ChainOfThoughtSettings",
    "CotReport",
    "FoundLabels",
    "FoundTemplate",
    "FoundTemplates",
    "InContext",
    "InContextSettings",
    "Mixed",
    "MixtureSettings",
    "PetSettings",
    "Reasoned",
    "Reasoner",
    "RefineSettings",
    "RefinedWords",
    "SearchSettings",
    "SimilarTask",
    "TemplateSearchSettings",
    "adapt",
    "nearest_tasks",
    "read_section",
    "refine_words",
    "run_chain_of_thought",
    "run_in_context",
    "run_mixture",
    "run_pet",
    "search_labels",
    "search_template",
    "section_of",
    "task_similarity",
]
