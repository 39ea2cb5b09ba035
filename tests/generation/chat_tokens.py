"""Tiny tokenizers that know a chat: ChatML as Qwen and SmolLM2 write it, Gemma's, one with thoughts, one without marks."""

import copy
from functools import cache

from ptune.inputs import Tokens
from tiny import tiny_tokenizer

__all__ = ["CHATML", "GEMMA", "TEMPLATES", "chat_tokens"]

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
    "{% for message in rest %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n'"
    " + (first if loop.first else '')"
    " + (message['content'] | trim) + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
THINKING = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BARE = (
    "{% for message in messages %}"
    "{{ ('Q: ' if message['role'] == 'user' else 'A: ') + message['content'] }}"
    "{{ '\n' if message['role'] == 'user' else '\n\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "gemma": GEMMA, "thinking": THINKING, "bare": BARE}
_BASE = {"chatml": "llama", "gemma": "gemma3", "thinking": "llama", "bare": "gpt2"}


@cache
def chat_tokens(name: str) -> Tokens:
    """The tokenizer of a tiny model with the marks and the template of a chat."""
    tokenizer = copy.deepcopy(tiny_tokenizer(_BASE[name]))
    marks = [mark for mark in ("<|im_start|>", "<|im_end|>", "<start_of_turn>", "<end_of_turn>") if mark in TEMPLATES[name]]
    if marks:
        tokenizer.add_special_tokens({"extra_special_tokens": marks})
    tokenizer.chat_template = TEMPLATES[name]
    return Tokens(tokenizer, "decoder")
