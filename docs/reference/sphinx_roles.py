"""Docstrings say :meth:`like this`; the site's Markdown says it by links. Used by mkdocs.yml."""  # noqa: INP001

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`(~?)([\w.]+)`")
# "text::" before an indented block, or "::" alone: Markdown needs no sign for it.
_LITERAL = re.compile(r"^(?:(.*[^:\s])::|[ \t]*::)$", re.MULTILINE)


class SphinxRoles(griffe.Extension):
    """Turns Sphinx roles and literal blocks of every docstring into Markdown."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:  # noqa: ARG002
        """Rewrite the docstrings of a package that was loaded whole.

        Args:
            pkg: The package.
            **kwargs: Of no use here.
        """
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
    # Optional: what stands on no page stays a word.
    return f'<autoref optional identifier="{target}"><code>{shown}</code></autoref>'
