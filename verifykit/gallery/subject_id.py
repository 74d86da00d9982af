"""What a subject may be called: one rule for every gallery."""

from __future__ import annotations

import unicodedata

from verifykit.errors import InputError

__all__ = ["MAX_SUBJECT_ID_BYTES", "checked_subject_id"]

MAX_SUBJECT_ID_BYTES = 255

# Line and paragraph separators break logs; embeddings, overrides and isolates (Unicode UAX #9) make
# one id print as another. The joiner of emoji is neither.
_FORBIDDEN_CATEGORIES = {"Cc": "a control character", "Cs": "half of a surrogate pair"}
_FORBIDDEN_POINTS = {
    **dict.fromkeys("\u2028\u2029", "a line separator"),
    **dict.fromkeys(
        "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069", "a text direction override"
    ),
}


def checked_subject_id(value: object) -> str:
    """The subject id, if it is one.

    Ids are compared code point by code point: two Unicode spellings of one name are two subjects.

    Args:
        value: 1 to 255 bytes of UTF-8, not only white space. ``/``, spaces and emoji are fine.

    Returns:
        The same string.

    Raises:
        InputError: Not a string, empty, too long, or it holds a control character, a lone
            surrogate, a line separator or a text direction override.
    """
    if not isinstance(value, str):
        raise InputError(f"a subject id is a string, got {type(value).__name__}")
    if not value.strip():
        raise InputError(f"a subject id must not be empty, got {value!r}")
    for position, character in enumerate(value):
        what = _FORBIDDEN_CATEGORIES.get(unicodedata.category(character))
        what = what or _FORBIDDEN_POINTS.get(character)
        if what:
            raise InputError(
                f"subject id {value[:64]!r} holds {what} (U+{ord(character):04X}) at position "
                f"{position}: leave it out"
            )
    size = len(value.encode())
    if size > MAX_SUBJECT_ID_BYTES:
        raise InputError(
            f"a subject id has at most {MAX_SUBJECT_ID_BYTES} bytes of UTF-8, {value[:32]!r}... has {size}"
        )
    return value
