"""What a member's name says about its image."""

from collections.abc import Sequence
from typing import NamedTuple


class Name(NamedTuple):
    """The meaning of one member name; every field but `image` is None where the name does not say.

    image: what identifies the image inside its source. matched: the file name follows the publisher's grammar.
    error: why the name has no meaning or contradicts itself; None if it is sound.
    """

    image: str
    matched: bool = False
    case_id: str | None = None
    slide_id: str | None = None
    label: int | None = None
    subtype: str | None = None
    magnification: int | None = None
    x: int | None = None
    y: int | None = None
    error: str | None = None


def disagreement(folders: Sequence[str], expected: Sequence[str]) -> str | None:
    """A sentence if the folders above a file contradict what its name says; None if they agree.

    folders: from the archive's root down to the file. expected: what the last of them should be called. An archive may
    begin below some of the expected folders: those that are there must agree.
    """
    there = list(folders)[-len(expected) :]
    wanted = list(expected)[len(expected) - len(there) :]
    if there == wanted:
        return None
    return f"name and folder disagree: it lies in {'/'.join(there)}/, its name says {'/'.join(wanted)}/"
