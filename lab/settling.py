"""Phases that settle: which metrics say how far from rest they stopped, what is too far, and which rules do not settle.

Descent of an energy with a step of `rate` comes to rest where the largest curvature is below `2 / rate` (with momentum
m, below `2 (1 + m) / rate`), and runs away where it is above. Normalisation divides by the spread of a channel, so that
behind one with little of it the curvature is large: a step that suits perceptrons runs away there, and one that does
not run away must be taken more often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from algorithms.rule import RuleInfo

METRICS = ("residual", "nudged_residual")
"""What a rule that settles may report: how far from rest its first phases stopped, and its second ones."""

RESIDUAL = ("resnet", "resnet, batch norm")
UNSETTLED = {
    "pc": dict.fromkeys(RESIDUAL, "pc(steps=150,rate=0.002)"),
    "ipc": dict.fromkeys(RESIDUAL, "ipc(rate=0.001)"),
}
"""Rule -> kind of network of `lab.rule_pages.NETWORKS` on which it does not settle as it comes -> settings that do.

Largest curvature there before training, on images of noise: 600 to 1100; 9 to 24 with norm=none, where `pc` settles as
it comes, and 2 to 8 on the other kinds.
"""


class Limit(NamedTuple):
    """`phases` have not come to rest where `metric` is above `most`."""

    metric: str
    phases: str
    most: float

    def exceeded(self, value: float) -> bool:
        """Whether a value is too far from rest; one that is not finite always is."""
        return not value <= self.most


def limits(info: RuleInfo) -> tuple[Limit, ...]:
    """How far from rest each of a rule's metrics may be; `nudged_residual` is a fraction, alike for all rules."""
    from algorithms.equilibrium import NUDGED_TOLERANCE

    nudged = Limit("nudged_residual", "second phases", NUDGED_TOLERANCE)
    return (nudged,) if info.tolerance is None else (Limit("residual", "phases", info.tolerance), nudged)
