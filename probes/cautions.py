"""What a reader of a value should be told besides it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from probes.features import class_labels, row_notes, stimuli
from probes.probe import PairProbe, Prepared, ProbeInfo

NEIGHBOURHOODS = ("mutual-knn", "cycle-knn", "cknna", "jaccard", "rank-similarity", "second-order-cosine")

WHATEVER_THE_ROWS = ("sparsity", "dead-units")
"""Shares of activations, which copies of stimuli and silent ones do not mislead."""
COPIES = {
    **dict.fromkeys(("twonn", "mle-dimension"), "and are left out"),
    **dict.fromkeys(
        ("linear-probe", "knn-probe", "concept-probe"),
        "so what is held out has been seen, and the score comes out too good (keep one of each)",
    ),
}
"""What copies of stimuli do to single measures, where it is not `COUNTED`."""
COUNTED = "but each counts as one more (keep one of each)"


def single_cautions(info: ProbeInfo, rows: np.ndarray, together: int = 1) -> list[str]:
    """What a reader of a value of one representation should be told, one line each; often nothing.

    rows: n × d, `together` of them the positions of one stimulus.
    """
    n, d = len(rows) // together, rows.shape[1]
    said = []
    if info.misleads(n, d):
        said.append(f"with n = {n} stimuli and {d} units, {info.few_stimuli} (use more than {2 * d} stimuli)")
    return said if info.name in WHATEVER_THE_ROWS else [*said, *row_notes(rows, COPIES.get(info.name, COUNTED))]


def cautions(
    probe: PairProbe,
    n: int,
    d1: int,
    d2: int,
    labels: Any = None,
    prepared: Sequence[Prepared] = (),
) -> list[str]:
    """What a reader of this value at this n and these widths should be told, one line each; often nothing.

    `prepared` adds remarks on the rows (all-zero, duplicates) of the representations themselves, and says whether
    several rows show one stimulus; n and labels are those of the rows.
    """
    name, d, settings = probe.info.name, max(d1, d2), dict(probe.info.params)
    said = []
    together = prepared[0].together if prepared else 1
    shown = n // together  # rows of one stimulus are alike, and stand for no more than one
    noisy_directions = name in ("cca", "pwcca")  # a closed form says how far they correlate
    if probe.info.misleads(shown, d) and not noisy_directions:
        known = probe.info.null_mean is not None and together == 1
        expected = f" ({name} of such is about {probe.info.null_mean(n, d1, d2):.2f})" if known else ""
        said.append(
            f"{name}: with n = {shown} stimuli and {d1} and {d2} units, {probe.info.few_stimuli}{expected}; use more "
            f"than {2 * d} stimuli, or read the null."
        )
    if noisy_directions and 1 < shown < 5 * d:
        said.append(
            f"{name}: with n = {shown} stimuli and {d1} and {d2} units, the squared canonical correlations of "
            f"unrelated representations are {min(1.0, d / (shown - 1)):.2f} on average; use many more stimuli, "
            "or svcca of a small rank."
        )
    kept = {p.arrays[0].shape[1] for p in prepared if p.arrays} if name == "svcca" else ()
    if len(kept) > 1:
        said.append(
            f"svcca: between {min(kept)} and {max(kept)} components are kept, and the value falls with their "
            f"number; give all the same, as in svcca(rank={min(kept)})."
        )
    if name == "debiased-cka" and 1 < n < 20:
        said.append(f"debiased-cka: unbiased but very noisy at n = {n} stimuli.")
    if name == "minibatch-cka" and n % settings["batch"]:
        said.append(f"minibatch-cka: the last {n % settings['batch']} of {n} stimuli fill no batch and are not used.")
    if name == "rtd" and n > settings["stimuli"]:
        said.append(f"rtd: only the first {settings['stimuli']} of {n} stimuli are used.")
    if not probe.info.paired:
        said.append(
            f"{name}: unpaired: it does not know which stimulus is which, so there is no null of permuted stimuli."
        )
    sizes = None if labels is None else np.bincount(class_labels(labels, n))
    if name in NEIGHBOURHOODS and n > settings["k"]:  # of fewer no stimulus has k neighbours, and there is no value
        k = settings["k"]
        if k / (n - 1) >= 0.1:
            what = "chance is" if name == "mutual-knn" else "a neighbour is shared by chance at a rate of"
            said.append(f"{name}: {what} {k / (n - 1):.2f} at k = {k} and n = {n}; use a smaller k.")
        if sizes is not None and len(sizes) > 1 and k >= sizes.min():
            said.append(
                f"{name}: k = {k} reaches outside the smallest class ({stimuli(sizes.min())}), so classes decide "
                "part of the value; use a smaller k."
            )
    together = max((p.together for p in prepared), default=1)
    if together > 1:
        said.append(
            f"{together} positions of each of {n // together} stimuli are rows here, alike because they belong "
            "to one stimulus, so the nulls move them as one."
        )
    if sizes is not None:
        alone = int((sizes == together).sum())
        if alone:
            said.append(
                f"{alone} of {len(sizes)} classes have one stimulus, which a within-class permutation cannot move: the "
                "within-class null is too high by what they share."
            )
        if len(sizes) == 1:
            said.append("there is one class only, so the within-class null is the global null.")
    for note in dict.fromkeys(note for p in prepared for note in p.notes):
        said.append(f"{note}.")
    return said
