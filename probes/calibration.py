"""Whether a network is right as often as it says."""

import math

import numpy as np

from probes.outputs import NO_INVARIANCES, log_softmax
from probes.probe import FunctionalProbe, ProbeInfo, Undefined, positive_integer
from probes.subject import Subject, Task, functional_probe


def calibration_error(bins: int = 15) -> FunctionalProbe:
    """Expected calibration error of the predicted class, in bins of equal numbers of stimuli.

        ECE = Σ_b (n_b/n) |accuracy_b − confidence_b|,  confidence = max_c softmax(z)_c

    Stimuli are sorted by confidence and cut into bins whose sizes differ by at most one; equally confident stimuli
    share their mean accuracy, so their order does not matter. Returns value (ECE), if_calibrated (what ECE a
    perfectly calibrated network with these confidences would show: √(2/π) Σ_b √(Σ_{i∈b} c_i(1 − c_i))/n, its
    sampling error), brier (mean Σ_c (p_c − [c = y])², 0..2), nll (mean −log p_y in nats), accuracy and confidence.
    Range 0..1. Undefined for scores that are no logits, and for fewer stimuli than bins.
    Source: Guo, Pleiss, Sun and Weinberger 2017, arXiv 1706.04599; Nixon et al. 2019, arXiv 1904.01685 (equal mass).
    """
    bins = positive_integer("bins", bins)
    info = ProbeInfo(
        name="calibration-error",
        title="expected calibration error",
        kind="functional",
        formula="Σ_b (n_b/n) |accuracy_b − confidence_b|, bins of equal mass",
        citation="Guo, Pleiss, Sun, Weinberger 2017, arXiv 1706.04599; "
        "Nixon, Dusenberry, Jerfel, Nguyen, Liu, Zhang, Tran 2019, arXiv 1904.01685",
        range=(0.0, 1.0),
        direction=None,
        symmetric=None,
        metric=False,
        invariances=NO_INVARIANCES,
        convention=f"{bins} bins of equal mass (many codes: 15 of equal width), the predicted class only; Brier score "
        "summed over classes",
        cost="n·C + n·log n",
        traps="Never 0 in a finite sample: a calibrated network shows about `if_calibrated`, more with more bins. "
        "ECE is no proper score (always answering the base rate is calibrated): read Brier and NLL beside it.",
        params=(("bins", bins),),
    )

    def value(task: Task, s: Subject) -> dict[str, float | Undefined] | Undefined:
        n = len(task.y)
        if n < bins:
            return Undefined(f"there are {n} stimuli, fewer than the {bins} bins")
        log_p = log_softmax(s.scores)
        p = np.exp(log_p)
        right = (s.prediction == task.y).astype(float)
        levels, tie, count = np.unique(p.max(axis=1), return_inverse=True, return_counts=True)
        shared = (np.bincount(tie, right) / count)[tie]
        order = np.argsort(tie, kind="stable")
        gap = noise = 0.0
        for rows in np.array_split(order, bins):
            confidence = levels[tie[rows]]
            gap += abs(float(shared[rows].sum() - confidence.sum()))
            noise += math.sqrt(max(0.0, float((confidence * (1.0 - confidence)).sum())))
        onehot = np.eye(p.shape[1])[task.y]
        return {
            "value": gap / n,
            "if_calibrated": math.sqrt(2.0 / math.pi) * noise / n,
            "brier": float(((p - onehot) ** 2).sum(axis=1).mean()),
            "nll": float(-log_p[np.arange(n), task.y].mean()),
            "accuracy": float(right.mean()),
            "confidence": float(levels[tie].mean()),
        }

    return functional_probe(info, value, 1, "scores", logits=True)
