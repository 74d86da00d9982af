"""Which subject ids are possible: one visible name is one id.

Ids are stored in Unicode's normalization form C. What cannot be seen is refused: a name that was pasted may
hold it, and a removal of the name as it is typed then misses it. Galleries of earlier versions may hold other
ids: each stays readable and removable under the very id that is stored, and none is changed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import TypeVar

from verifykit.errors import InputError, shown

MAX_SUBJECT_ID_BYTES = 255

_CATEGORIES = {
    "Cc": "a control character",
    "Cf": "an invisible character",
    "Cs": "half of a surrogate pair",
    "Zl": "a line separator",
    "Zp": "a line separator",
}
# Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties.txt) without Cf, and the empty Braille cell.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0"
    "\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_NON_JOINER, _JOINER = "\u200c", "\u200d"
_VIRAMA = 9  # Canonical_Combining_Class


def checked_subject_id(value: object) -> str:
    """Return the subject id in normalization form C, if it is one.

    Args:
        value: 1 to 255 bytes of UTF-8. ``/``, emoji and spaces between words are fine.

    Returns:
        The id as it is stored: what is composed and what is decomposed becomes one id.

    Raises:
        InputError: Not a string, empty, too long, ``.`` or ``..``, white space at an end or other than
            U+0020, an invisible or control character, or a noncharacter; the message names its code point.
    """
    if not isinstance(value, str):
        raise InputError(f"a subject id is a string, got {type(value).__name__}")
    if not value.strip():
        raise InputError(f"a subject id must not be empty, got {shown(value[:64])}")
    subject_id = unicodedata.normalize("NFC", str(value))
    if subject_id in (".", ".."):
        raise InputError(
            f"subject id {shown(subject_id)} (U+002E) names a folder in paths and URLs: choose another"
        )
    for position, character in enumerate(subject_id):
        if what := _problem(subject_id, position):
            name = unicodedata.name(character, "")
            raise InputError(
                f"subject id {shown(subject_id[:64])} holds {what} (U+{ord(character):04X}"
                f"{f' {name}' if name else ''}) at position {position}: leave it out"
            )
    size = len(subject_id.encode())
    if size > MAX_SUBJECT_ID_BYTES:
        raise InputError(
            f"a subject id has at most {MAX_SUBJECT_ID_BYTES} bytes of UTF-8, {shown(subject_id[:32])} has "
            f"{size}"
        )
    return subject_id


def _problem(text: str, position: int) -> str | None:
    character = text[position]
    category = unicodedata.category(character)
    if character in (_NON_JOINER, _JOINER) and _joins(text, position):
        return None
    if category == "Zs" or character.isspace():
        if position in (0, len(text) - 1):
            return "white space at its start or end"
        if category == "Zs" and character != " ":
            return "a space other than U+0020"
    if _INVISIBLE.match(character):
        return "an invisible character"
    if "\ufdd0" <= character <= "\ufdef" or ord(character) & 0xFFFE == 0xFFFE:
        return "what is no character in Unicode"
    return _CATEGORIES.get(category)


def _joins(text: str, position: int) -> bool:
    """Return whether a joiner can be seen: in an emoji, in Indic scripts, between Arabic letters.

    RFC 5892, appendices A.1 and A.2; that a letter joins is taken from its presentation forms.
    """
    if not 0 < position < len(text) - 1:
        return False
    before, after = text[position - 1], text[position + 1]
    if unicodedata.combining(before) == _VIRAMA:
        return unicodedata.category(after) == "Lo"
    if text[position] == _JOINER:
        return unicodedata.category(before) in ("So", "Sk") and unicodedata.category(after) == "So"
    return _has_form(before, "INITIAL") and _has_form(after, "FINAL")


def _has_form(letter: str, form: str) -> bool:
    try:
        unicodedata.lookup(f"{unicodedata.name(letter)} {form} FORM")
    except (KeyError, ValueError):
        return False
    return True


_Found = TypeVar("_Found")


def find_subject(value: object, find: Callable[[str], _Found | None]) -> tuple[str, _Found] | None:
    """Return the id under which a subject is stored, and what ``find`` returns for it.

    The very id first, as an earlier version may have stored it, then as this version stores it.
    """
    if isinstance(value, str) and is_storable(value) and (found := find(value)) is not None:
        return value, found
    subject_id = checked_subject_id(value)
    if subject_id == value or (found := find(subject_id)) is None:
        return None
    return subject_id, found


def is_storable(value: str) -> bool:
    """Return whether an earlier version may have stored this id."""
    try:
        return 0 < len(value.encode()) <= MAX_SUBJECT_ID_BYTES and "\0" not in value
    except UnicodeEncodeError:
        return False


def id_problems(subject_ids: Iterable[str]) -> list[str]:
    """Return a sentence for each stored id that is not possible any more, and for ids that look alike."""
    found = []
    alike: dict[str, list[str]] = {}
    for subject_id in subject_ids:
        try:
            checked = checked_subject_id(subject_id)
        except InputError as error:
            found.append(str(error))
        else:
            if checked != subject_id:
                found.append(f"subject id {subject_id!a} is not in normalization form C")
        alike.setdefault(_visible(subject_id), []).append(subject_id)
    for same in alike.values():
        if len(same) > 1:
            listed = ", ".join(map(ascii, sorted(same)))
            found.append(f"subject ids that look the same: {listed}: remove all but one")
    return found


def _visible(subject_id: str) -> str:
    """Return what can be seen of an id."""
    text = unicodedata.normalize("NFC", subject_id)
    seen = (
        character
        for position, character in enumerate(text)
        if character.isspace() or _problem(text, position) != "an invisible character"
    )
    return " ".join(unicodedata.normalize("NFC", "".join(seen)).split())
