"""Convert Sphinx roles such as :meth:`this` in docstrings to Markdown links. Used by mkdocs.yml."""  # noqa: INP001

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")
# "text::" before an indented block, or "::" alone: Markdown needs no marker for it.
_LITERAL = re.compile(r"^(?:(.*[^:\s])::|[ \t]*::)$", re.MULTILINE)


class SphinxRoles(griffe.Extension):
    """Convert Sphinx roles and literal blocks of every docstring to Markdown."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:  # noqa: ARG002
        """Rewrite the docstrings of a loaded package."""
        self._rewrite(pkg)

    def _rewrite(self, thing: griffe.Object) -> None:
        if thing.docstring:
            text = _LITERAL.sub(
                lambda found: f"{found[1]}:" if found[1] else "", thing.docstring.value
            )
            thing.docstring.value = _ROLE.sub(lambda found: _link(thing, found), text)
        for member in thing.members.values():
            if isinstance(member, griffe.Object):
                self._rewrite(member)


def _link(thing: griffe.Object, found: re.Match[str]) -> str:
    shortened, name = found.groups()
    first, dot, rest = name.partition(".")
    try:
        target = thing.resolve(first) + dot + rest
    except griffe.NameResolutionError:
        target = name
    shown = name.rpartition(".")[2] if shortened else name
    # Optional: a name without a page stays plain text.
    return f'<autoref optional identifier="{target}"><code>{shown}</code></autoref>'
