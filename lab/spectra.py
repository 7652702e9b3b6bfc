"""Eigenvalue spectra of stored representations, and the power laws fitted to them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lab.capture import capture, dataset_of, final_step
from lab.capture import stimuli as choose_stimuli
from lab.comparison import labels_of
from probes import Undefined
from probes.spectrum import singular_values, spectrum_exponent
from runs import RunFolder


def spectra(folders: list[RunFolder], stimuli: int = 1000, say: Callable[[str], None] = lambda line: None):
    """Eigenvalues of the covariance of every layer's activations at the end of training, for every seed.

    Returns:
        Two DataFrames. Curves: rule, seed, layer, index (from 1), eigenvalue (they sum to 1 over a layer). Fits: rule,
        seed, layer, exponent (of eigenvalue ∝ index^-exponent), low, high (indices fitted), r2; nan where undefined.
    """
    import pandas as pd

    dataset = dataset_of(folders)
    seen = choose_stimuli(dataset, stimuli)
    probe = spectrum_exponent()
    curves, fits = [], []
    for folder, label in zip(folders, labels_of(folders), strict=True):
        folder.require_complete()
        say(f"reading {label}")
        for layer, by_seed in capture(folder, final_step(folder), seen, dataset).items():
            for seed, h in by_seed.items():
                key = {"rule": label, "seed": seed, "layer": layer}
                shares = covariance_eigenvalues(h)
                curves += [{**key, "index": i, "eigenvalue": share} for i, share in enumerate(shares, 1)]
                found = probe.value(h)
                if isinstance(found, Undefined):
                    say(f"{label}, seed {seed}, {layer}: no exponent, {found.reason}")
                    found = dict.fromkeys(("value", "low", "high", "r2"), np.nan)
                fits.append({**key, "exponent": found["value"], **{k: found[k] for k in ("low", "high", "r2")}})
    key = ["rule", "seed", "layer"]  # named here, for a run whose seeds all diverged has no line to take them from
    return (
        pd.DataFrame(curves, columns=[*key, "index", "eigenvalue"]),
        pd.DataFrame(fits, columns=[*key, "exponent", "low", "high", "r2"]),
    )


def covariance_eigenvalues(h: np.ndarray) -> np.ndarray:
    """Eigenvalues of the covariance of (stimuli × units) activations, falling, as shares of their sum.

    All nan for a constant representation, which has no variance to share.
    """
    values = singular_values(h)
    if isinstance(values, Undefined):
        return np.full(min(h.shape), np.nan)
    return values**2 / (values**2).sum()
