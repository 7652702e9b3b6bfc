"""Arrays on their way into a probe: checked, cast to float64, scaled, centred.

Every probe takes X as n stimuli × d units and starts here, so that all of them refuse the same things with the same
words and treat the same things as constant.
"""

from typing import Any

import numpy as np

from probes.probe import ProbeError, Undefined

# Centred features smaller than this share of the raw ones are rounding noise of the mean, not variance.
ROUNDING = 1e-14

# Numbers of order 1 are rounded here before they are ranked: duplicates and quantised features tie exactly in theory,
# and rounding must not order them.
TIE_DECIMALS = 12


def features(X: Any, name: str = "the representation") -> np.ndarray:
    """X as a finite float64 array of n stimuli × d units.

    Raises:
        ProbeError: not numeric, not two-dimensional, empty, or with NaN or infinite entries.
    """
    try:
        x = np.asarray(X)
    except ValueError as error:
        raise ProbeError(f"{name} is not a rectangular array ({error}); pass one row per stimulus.") from None
    if x.dtype.kind in "USOMmc" or x.dtype.names is not None:
        raise ProbeError(f"{name} has dtype {x.dtype}, but probes take real numbers; convert it first.")
    if x.ndim != 2:
        raise ProbeError(
            f"{name} has shape {x.shape}, but a probe needs stimuli × units; flatten or pool explicitly, "
            "because pooling, flattening and positions-as-stimuli are different questions."
        )
    if x.size == 0:
        raise ProbeError(f"{name} has shape {x.shape}: there is nothing to measure; pass at least one row and column.")
    try:
        x = np.array(x, dtype=np.float64, order="C")
    except (TypeError, ValueError):
        raise ProbeError(f"{name} has dtype {x.dtype}, which does not convert to float64; convert it first.") from None
    finite = np.isfinite(x)
    if not finite.all():
        rows = np.flatnonzero(~finite.all(axis=1))
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise ProbeError(
            f"{name} has {int((~finite).sum())} non-finite entries in {len(rows)} of {len(x)} rows (rows {shown}); "
            "a diverged network has no geometry: leave it out and count it."
        )
    return x


def class_labels(labels: Any, n: int, name: str = "labels") -> np.ndarray:
    """Labels of the n stimuli as integers 0..C-1, in sorted order of the labels.

    Raises:
        ProbeError: not one label per stimulus, or a label that is nan.
    """
    if labels is None:
        raise ProbeError(f"{name} are needed here: pass one class per stimulus.")
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) != n:
        raise ProbeError(f"{name} have shape {array.shape}, but there are {n} stimuli; pass one per row.")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ProbeError(f"some {name} are nan; leave those stimuli out or label them.")
    return np.unique(array, return_inverse=True)[1].reshape(n)


def stimuli(n: int) -> str:
    """So many stimuli, in words."""
    return "1 stimulus" if n == 1 else f"{n} stimuli"


def exponent(x: np.ndarray) -> int:
    """The power of two next above the largest entry of x."""
    return int(np.frexp(np.abs(x).max())[1])


def scaled(x: np.ndarray) -> np.ndarray:
    """x / 2**exponent(x), whose largest entry is near 1: exact, and squares neither over- nor underflow."""
    return np.ldexp(x, -exponent(x))


def centred(x: np.ndarray) -> np.ndarray | Undefined:
    """Columns of x minus their means, up to an exact power of two; Undefined if nothing is left but rounding."""
    if len(x) == 1:
        return Undefined("there is one stimulus only, and one row has no variance")
    raw = scaled(x)
    c = raw - raw.mean(axis=0)
    c -= c.mean(axis=0)  # the first mean carries rounding error of the offset; the second removes it
    if np.linalg.norm(c) <= ROUNDING * np.linalg.norm(raw):
        return Undefined(f"the representation is the same for all {len(x)} stimuli, so it has no variance")
    return c


def narrowed(c: np.ndarray) -> np.ndarray:
    """The same rows in at most n columns: an orthogonal change of basis, so all inner products of rows stay."""
    n, d = c.shape
    return c if d <= n else np.ascontiguousarray(np.linalg.qr(c.T, mode="r").T)


def row_notes(
    x: np.ndarray, copies: str = "so nulls and held-out scores come out too good (average them first)"
) -> tuple[str, ...]:
    """What a reader should know about the rows: how many are all zero, how many repeat another, and what copies do."""
    notes = []
    zero = int((~x.any(axis=1)).sum())
    if zero:
        notes.append(f"{zero} of {len(x)} rows are all zero (no unit responds)")
    repeats = len(x) - len({row.tobytes() for row in x})
    if repeats:
        notes.append(
            f"{repeats} of {len(x)} rows repeat an earlier row exactly: copies are no independent stimuli, {copies}"
        )
    return tuple(notes)
