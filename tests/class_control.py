"""The class-only control: representations that share class means and nothing else, and ones that share more.

python -m tests.class_control
"""

import numpy as np

from probes import PROBES
from probes.nulls import permutation_test

N, CLASSES, UNITS, PERMUTATIONS = 500, 10, 64, 200


CASES = {
    "shared class means, nothing else": (0.0, 3.0),
    "shared class means and within-class structure": (0.5, 2.2),
}
"""Share of the within-class variance that both arrays have in common, and how far apart the class means lie: nearer
where more is shared, so that the raw values are equal."""


def representations(shared: float, apart: float, seed: int = 0):
    """Two arrays (n × units) with the same class means, their labels, and a within-class part shared as asked.

    Class means lie `apart` standard deviations out along random directions; within its class every stimulus is spread
    by noise of 64 units. `shared` is the share of that noise's variance that both arrays have in common.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % CLASSES
    means = apart * rng.standard_normal((CLASSES, UNITS))
    common = rng.standard_normal((N, UNITS))
    a, b = (
        means[labels] + np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.standard_normal((N, UNITS))
        for _ in range(2)
    )
    return a, b, labels


def results(shared: float, apart: float) -> dict[str, float]:
    """Linear CKA of one pair beside both nulls."""
    probe = PROBES["linear-cka"]()
    a, b, labels = representations(shared, apart)
    pair = probe.prepare(a), probe.prepare(b)
    free, within = (
        permutation_test(probe, *pair, kind=kind, labels=labels, permutations=PERMUTATIONS)
        for kind in ("global", "within-class")
    )
    return {"cka": free.observed, "p_global": free.p, "calibrated": within.calibrated, "p_within": within.p}


def main() -> None:
    for title, case in CASES.items():
        r = results(*case)
        print(f"| {title} | {r['cka']:.3f} | {r['p_global']:.3f} | {r['calibrated']:.3f} | {r['p_within']:.3f} |")


if __name__ == "__main__":
    main()
