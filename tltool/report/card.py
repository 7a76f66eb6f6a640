"""A model card: what a model is for, what it was made of, how good it is, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["CardSection", "card_as_markdown"]


@dataclass(frozen=True)
class CardSection:
    """A part of a model card.

    Args:
        title: above it.
        lines: sentences, or items of a list where there are several.
        code: whether they are commands.

    Source: Mitchell et al., "Model Cards for Model Reporting", 2019,
    https://doi.org/10.1145/3287560.3287596
    """

    title: str
    lines: tuple[str, ...]
    code: bool = False


def card_as_markdown(title: str, sections: Sequence[CardSection]) -> str:
    """The same as a Markdown file; names of files and classes are taken literally."""
    parts = [f"# {_literal(title)}"]
    for section in sections:
        lines = section.lines if section.code else [_literal(line) for line in section.lines]
        body = list(lines) if len(lines) == 1 else [f"- {line}" for line in lines]
        if section.code:
            body = ["```", *section.lines, "```"]
        parts.append(f"## {_literal(section.title)}\n" + "\n".join(body))
    return "\n\n".join(parts) + "\n"


def _literal(text: str) -> str:
    """Text in which Markdown and HTML see nothing of theirs."""
    for mark in "\\`*_[]<>#|":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;")
