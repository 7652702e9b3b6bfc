"""What a study found, in plain sentences: what differs, and by how much more than chance, seeds and labels explain."""

from __future__ import annotations

from typing import Any

import numpy as np

from lab.comparison_nulls import null_sources
from lab.summary import summarise
from runs import RunFolder


def findings(reference: str, folders: dict[str, RunFolder], all_rows: Any, rows_at_equal_accuracy: Any) -> list[str]:
    """Sentences about a study; every number in them is in the tables beside them.

    Args:
        reference: label of the rule that every other is compared with.
        folders: label -> run.
        all_rows: `Comparison.rows` of all measures, the headline one first.
        rows_at_equal_accuracy: the same of the headline measure, at steps of nearly equal accuracy.
    """
    summaries = {label: summarise(folder) for label, folder in folders.items()}
    headline = all_rows["measure"].iloc[0]
    rows = all_rows[all_rows["measure"] == headline]
    last = rows["layer"].iloc[-1]
    at_last = rows[rows["layer"] == last]
    sentences = [
        accuracies(summaries),
        *(_layer(rows[rows["layer"] == layer], layer, reference) for layer in rows["layer"].unique()),
        _labels_and_chance(at_last, last, reference),
        _start(at_last, last, reference),
        _other_measures(all_rows, headline, last, reference),
        _at_equal_accuracy(rows_at_equal_accuracy, last, reference),
        _limits(rows, summaries),
    ]
    return [sentence for sentence in sentences if sentence]


def accuracies(summaries: dict[str, dict[str, Any]]) -> str:
    """Who learned how well; whether any rule failed to beat the control that trains nothing but the readout."""
    told = []
    for label, summary in summaries.items():
        accuracy = summary["test_accuracy"]
        sd = "" if accuracy["sd"] is None else f" ± {100 * accuracy['sd']:.2f}"
        lost = f", {len(summary['diverged'])} of its seeds diverged" if summary["diverged"] else ""
        told.append(f"{label} {100 * accuracy['mean']:.2f}{sd} %{lost}")
    n = len(next(iter(summaries.values()))["seeds"])
    said = f"Test accuracy (mean ± standard deviation over {n} seeds): {'; '.join(told)}."
    if "frozen" in summaries:
        floor = summaries["frozen"]["test_accuracy"]["per_seed"]
        others = {name: s["test_accuracy"]["per_seed"] for name, s in summaries.items() if name != "frozen"}
        weak = [name for name, values in others.items() if not _all_above(values, floor)]
        if weak:
            verb = "does" if len(weak) == 1 else "do"
            said += f" {_and(weak)} {verb} not beat frozen with every seed: there, credit is not shown to reach the"
            said += " hidden blocks."
        else:
            said += " Every seed of every rule beats its frozen twin, whose hidden blocks never change."
    return said


def _all_above(values: list[float | None], floor: list[float | None]) -> bool:
    """Whether every seed is above its twin with the same start; an undefined accuracy is above nothing."""
    return all(a is not None and b is not None and a > b for a, b in zip(values, floor, strict=True))


def _against(rows, reference: str) -> list[tuple[str, Any, str]]:
    """(other rule, row, side of the reference) for the rows that involve the reference."""
    found = []
    for _, row in rows.iterrows():
        if reference in (row["rule_a"], row["rule_b"]):
            other, side = (row["rule_b"], "a") if row["rule_a"] == reference else (row["rule_a"], "b")
            found.append((other, row, side))
    return found


def _layer(rows, layer: str, reference: str) -> str:
    """At one layer: which rules differ from the reference by more than seeds do."""
    differ, alike, closer, unknown = [], [], [], []
    for other, row, _ in _against(rows, reference):
        low, high = row["rule_effect_low"], row["rule_effect_high"]
        told = f"{other} ({_effect(row)})"
        (unknown if np.isnan(low) else differ if low > 0 else alike if high >= 0 else closer).append(told)
    first = rows.iloc[0]
    parts = [f"{layer}, {first['measure']} ({first['direction']}), networks of different seeds:"]
    if differ:
        parts.append(f"networks of {reference} differ from those of {_and(differ)} by more than seeds of one rule do.")
    if alike:
        parts.append(f"No difference from {_and(alike)} beyond that between seeds was found.")
    if closer:
        parts.append(f"Networks of {_and(closer)} are more like those of {reference} than seeds of one rule are.")
    if unknown:
        parts.append(f"For {_and(unknown)} the comparison does not tell.")
    return " ".join(parts)


def _effect(row) -> str:
    """`rule effect +0.071 [+0.050, +0.092], between .842, ceilings .931 and .894`."""
    interval = (
        "" if np.isnan(row["rule_effect_low"]) else f" [{row['rule_effect_low']:+.3f}, {row['rule_effect_high']:+.3f}]"
    )
    return (
        f"rule effect {row['rule_effect']:+.3f}{interval}: {row['between']:.3f} between, "
        f"{row['ceiling_a']:.3f} and {row['ceiling_b']:.3f} within"
    )


def _labels_and_chance(rows, layer: str, reference: str) -> str:
    """How much of the similarity the class labels explain by themselves, and chance."""
    told, beyond = [], []
    for other, row, _ in _against(rows, reference):
        if np.isnan(row["null_within"]):
            continue
        told.append(f"{other} {row['between']:.3f} against {row['null_within']:.3f}")
        if row["null_within_p"] <= 0.05:
            beyond.append(other)
    if not told:
        return ""
    first = rows.iloc[0]
    against = [row["null_global"] for _, row, _ in _against(rows, reference)]
    chance = max(against, key=abs) if first["direction"] == "similarity" else min(against)
    return (
        f"Labels alone (stimuli permuted within their class) explain part of what {reference} shares with the others "
        f"at {layer}: {'; '.join(told)}. Beyond labels (p ≤ .05): {_and(beyond) or 'none'}. Chance (stimuli permuted "
        f"freely) is {abs(chance):.3f}."
    )


def _start(rows, layer: str, reference: str) -> str:
    """How alike trained networks still are to their own initialisation, and what a shared one does."""
    found = _against(rows, reference)
    if not found:
        return ""
    own = {row[f"rule_{s}"]: row[f"untrained_{s}"] for _, row, _ in found for s in ("a", "b")}
    shared = [
        f"{other} {row['same_start']:.3f} (other start {row['between']:.3f})"
        for other, row, _ in found
        if not np.isnan(row["same_start"])
    ]
    said = (
        f"Against their own untrained start, networks score at {layer}: "
        + "; ".join(f"{k} {v:.3f}" for k, v in own.items())
        + "."
    )
    return said + (f" Sharing a start with {reference}: {'; '.join(shared)}." if shared else "")


def _other_measures(rows, headline: str, layer: str, reference: str) -> str:
    """Whether the other measures agree in sign and certainty with the first."""
    told = []
    for measure in rows["measure"].unique():
        if measure == headline:
            continue
        chosen = rows[(rows["measure"] == measure) & (rows["layer"] == layer)]
        differ = [other for other, row, _ in _against(chosen, reference) if row["rule_effect_low"] > 0]
        told.append(f"by {measure}, {_and(differ) or 'none'}")
    return f"Rules that differ from {reference} at {layer} beyond seeds {'; '.join(told)}." if told else ""


def _at_equal_accuracy(rows, layer: str, reference: str) -> str:
    """The same question with networks stopped near the accuracy of the weakest, as near as checkpoints allow."""
    chosen = _against(rows[rows["layer"] == layer], reference)
    if not chosen:
        return ""
    told = [
        f"{other} {_signed(row)} (accuracies {100 * row['accuracy_a']:.1f} and {100 * row['accuracy_b']:.1f} %)"
        for other, row, _ in chosen
    ]
    return (
        f"At the stored steps nearest in validation accuracy, the rule effect against {reference} at {layer} is: "
        f"{'; '.join(told)}."
    )


def _signed(row) -> str:
    if np.isnan(row["rule_effect_low"]):
        return f"{row['rule_effect']:+.3f}"
    return f"{row['rule_effect']:+.3f} [{row['rule_effect_low']:+.3f}, {row['rule_effect_high']:+.3f}]"


def _limits(rows, summaries: dict[str, Any]) -> str:
    """What these numbers rest on, and what they cannot show."""
    first = rows.iloc[0]
    said = (
        f"n = {first['n']} test stimuli, {first['seeds']} seeds per rule, 95 % intervals over seeds, nulls "
        f"{null_sources(rows)}; layers are compared with their namesakes; nothing but the number of "
        "steps is matched unless it is said. Intervals are not corrected for the number of comparisons."
    )
    floor = rows["rule_effect_p_floor"].max()
    if floor > 0.05:
        said += f" With so few seeds no exact test of a rule effect can go below p = {floor:.3g}."
    if np.isnan(floor):
        said += " Fewer than three seeds per rule have neither intervals nor tests."
    if "ff" in summaries:
        said += (
            " Representations of ff are read with a neutral label in the image, since it sees labels while it learns."
        )
    return said


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
