"""Labels of runs where there is no room for them: numbers, with a key beside them."""

from __future__ import annotations

LONGEST = 12
"""Letters of a label that a table with eight columns of numbers has room for, twice."""


def names_in_table(labels: list[str]) -> dict[str, str]:
    """Label -> what a table calls it: all by numbers where one is too long, and a legend says which is which."""
    numbered = max(map(len, labels)) > LONGEST
    return {label: str(place) if numbered else label for place, label in enumerate(labels, 1)}


def legend(names: dict[str, str]) -> list[str]:
    """A line per label that the table does not show, and an empty one; none where it shows all."""
    hidden = [f"{name}: {label}" for label, name in names.items() if name != label]
    return [*hidden, ""] if hidden else []
