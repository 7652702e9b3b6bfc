"""Comparing what two networks answer: predictions, errors, probabilities.

All three measures move with the two accuracies, so two good networks agree whatever they have in common. Each
therefore comes with what the accuracies alone would give.
"""

import math

import numpy as np
from scipy.optimize import brentq

from probes.probe import FunctionalProbe, ProbeInfo, Undefined, one_of
from probes.subject import Subject, Task, functional_probe

ACCURACY_TRAP = "Moves with the two accuracies: compare networks at matched accuracy or read the normalised value."
NO_INVARIANCES: frozenset[str] = frozenset()


def agreement_bounds(right_a: int, right_b: int, n: int, classes: int) -> tuple[float, float]:
    """Smallest and largest share of equal predictions that two networks with so many right answers of n can have.

    Largest: errors coincide wherever both are wrong. Smallest: right answers overlap as little as they can, and with
    more than two classes wrong answers need never be the same one.
    """
    overlap = right_a + right_b - n
    least = abs(overlap) if classes == 2 else max(0, overlap)
    return least / n, 1.0 - abs(right_a - right_b) / n


def _within_class_chance(task: Task, a: Subject, b: Subject) -> float:
    """Expected share of equal predictions if each network's answers were shuffled within every class."""
    size = task.y.max() + 1, a.scores.shape[1]
    counts = []
    for s in (a, b):
        confusion = np.zeros(size)
        np.add.at(confusion, (task.y, s.prediction), 1.0)
        counts.append(confusion)
    of_class = np.maximum(np.bincount(task.y), 1)
    return float(((counts[0] * counts[1]).sum(axis=1) / of_class).sum() / len(task.y))


def agreement() -> FunctionalProbe:
    """Share of stimuli to which two networks give the same answer.

        P(argmax_A = argmax_B);  normalised = (agreement − min)/(max − min),  kappa = (agreement − chance)/(1 − chance)

    min and max are what the two accuracies allow; chance is the expectation if answers were shuffled within each
    class, Σ_c (n_c/n) Σ_j P_A(j|c) P_B(j|c). Returns value (raw), normalised, kappa, lowest, highest, chance. Range
    0..1 (kappa from −1). `normalised` is Undefined where the accuracies leave no room, `kappa` where chance is 1.
    Source: Klabunde, Schumacher, Strohmaier and Lemmerich 2023, arXiv 2305.06329; Cohen 1960 (kappa).
    """
    info = ProbeInfo(
        name="agreement",
        title="agreement of predictions",
        kind="functional",
        formula="P(argmax_A = argmax_B); normalised (agreement − min)/(max − min) given both accuracies",
        citation="Klabunde, Schumacher, Strohmaier, Lemmerich 2023, arXiv 2305.06329; "
        "Cohen 1960, doi 10.1177/001316446002000104",
        range=(0.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=NO_INVARIANCES,
        convention="equal scores: the first class wins; chance keeps every network's answers within each class, so it "
        "is the within-class null in closed form; disagreement (churn) is 1 − value, and is a metric",
        cost="n·C",
        traps=ACCURACY_TRAP,
    )

    def value(task: Task, a: Subject, b: Subject) -> dict[str, float | Undefined]:
        n = len(task.y)
        same = float((a.prediction == b.prediction).mean())
        right = [int((s.prediction == task.y).sum()) for s in (a, b)]
        low, high = agreement_bounds(*right, n, a.scores.shape[1])
        chance = _within_class_chance(task, a, b)
        room = high - low > 1e-12
        return {
            "value": same,
            "normalised": (same - low) / (high - low)
            if room
            else Undefined("with these two accuracies only one agreement is possible"),
            "kappa": (same - chance) / (1.0 - chance)
            if chance < 1.0 - 1e-12
            else Undefined("within each class both networks give one answer, the same one"),
            "lowest": low,
            "highest": high,
            "chance": chance,
        }

    return functional_probe(info, value, 2, "scores")


def error_consistency() -> FunctionalProbe:
    """Error consistency: Cohen's kappa of being right.

        κ = (c_obs − c_exp)/(1 − c_exp),  c_exp = p_A p_B + (1 − p_A)(1 − p_B)

    c_obs is the share of stimuli that both get right or both get wrong, p the accuracies. Returns value (κ),
    observed, expected, errors_a, errors_b, and standard_error, the large-sample one over stimuli. Range −1..1; 0 for
    independent errors. Undefined where both networks are always right, or both always wrong.
    Source: Geirhos, Meding and Wichmann 2020, arXiv 2006.16736; Fleiss, Cohen and Everitt 1969 (standard error).
    """
    info = ProbeInfo(
        name="error-consistency",
        title="error consistency",
        kind="functional",
        formula="κ = (c_obs − c_exp)/(1 − c_exp), c_exp = p_A p_B + (1 − p_A)(1 − p_B)",
        citation="Geirhos, Meding, Wichmann 2020, arXiv 2006.16736; Fleiss, Cohen, Everitt 1969, doi 10.1037/h0028106",
        range=(-1.0, 1.0),
        direction="similarity",
        symmetric=True,
        metric=False,
        invariances=NO_INVARIANCES,
        convention="undefined at c_exp = 1, where other codes return 1; one perfect network beside an imperfect one "
        "gives 0",
        cost="n·C",
        traps="Rests on the errors, which are few at high accuracy: read the standard error (over stimuli, not over "
        "seeds). Unequal accuracies keep κ below 1. Hard stimuli make errors coincide in unrelated networks.",
    )

    def value(task: Task, a: Subject, b: Subject) -> dict[str, float | Undefined] | Undefined:
        right_a, right_b = (s.prediction == task.y for s in (a, b))
        n, errors_a, errors_b = len(task.y), int((~right_a).sum()), int((~right_b).sum())
        if errors_a == errors_b and errors_a in (0, n):
            return Undefined(f"both networks are always {'wrong' if errors_a else 'right'}: errors cannot differ")
        joint = np.array([[(right_a & right_b).sum(), (right_a & ~right_b).sum()], [0.0, 0.0]]) / n
        joint[1] = (~right_a & right_b).sum() / n, (~right_a & ~right_b).sum() / n
        rows, columns = joint.sum(axis=1), joint.sum(axis=0)
        observed, expected = float(np.trace(joint)), float(rows @ columns)
        kappa = (observed - expected) / (1.0 - expected)
        # Delta method: ∂κ/∂p_ij from ∂c_obs/∂p_ij = [i = j] and ∂c_exp/∂p_ij = columns_i + rows_j.
        slope = (np.eye(2) * (1.0 - expected) - (columns[:, None] + rows[None, :]) * (1.0 - observed)) / (
            1.0 - expected
        ) ** 2
        variance = float((joint * slope**2).sum() - (joint * slope).sum() ** 2) / n
        return {
            "value": kappa,
            "observed": observed,
            "expected": expected,
            "errors_a": float(errors_a),
            "errors_b": float(errors_b),
            "standard_error": math.sqrt(max(variance, 0.0)),
        }

    return functional_probe(info, value, 2, "scores")


def log_softmax(z: np.ndarray) -> np.ndarray:
    """`z − log Σ exp z` of each row."""
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def jensen_shannon(log_p: np.ndarray, log_q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of each row, in bits: the mean divergence of p and q from m = (p + q)/2.

    With u = log(p/q)/2, p log(p/m) + q log(q/m) = 2m (u tanh u − log cosh u): no two nearly equal terms are
    subtracted, so nearly equal rows keep their digits.
    """
    # Probabilities below 1e-300 do not move the sum, and their logarithms may be −inf.
    log_p, log_q = (np.maximum(l, -690.0) for l in (log_p, log_q))
    u = np.abs(log_p - log_q) / 2
    tanh = np.tanh(u)
    small = np.minimum(u, 1.0)
    log_cosh = np.where(u < 1.0, -0.5 * np.log1p(-(np.tanh(small) ** 2)), u + np.log1p(np.exp(-2 * u)) - math.log(2))
    return ((np.exp(log_p) + np.exp(log_q)) / 2 * (u * tanh - log_cosh)).sum(axis=1) / math.log(2)


def fitted_temperature(logits: np.ndarray, y: np.ndarray) -> float | Undefined:
    """T > 0 that minimises the mean of −log softmax(z/T)[y].

    In β = 1/T this loss is convex, so its minimum is the one root of its derivative.
    """
    spread = logits.max(axis=1) - logits.min(axis=1)
    z = (logits - logits.max(axis=1, keepdims=True)) / max(spread.max(), np.finfo(float).tiny)
    right = z[np.arange(len(y)), y]

    def slope(beta: float) -> float:
        return float(((np.exp(log_softmax(beta * z)) * z).sum(axis=1) - right).mean())

    if slope(0.0) >= 0:
        return Undefined("the right class scores no better than the average one, so the best temperature is infinite")
    if not right.any():
        return Undefined("all stimuli that the temperature is fitted on are classified right, so the best one is 0")
    high = 1.0
    while slope(high) < 0:
        high *= 4.0
    return float(max(spread.max(), np.finfo(float).tiny) / brentq(slope, 0.0, high, xtol=1e-14, rtol=1e-12))


def output_divergence(temperature: str = "none") -> FunctionalProbe:
    """Mean Jensen-Shannon distance between the two networks' probabilities.

        mean_i √JSD₂(p_i, q_i),  JSD₂ = ½ KL₂(p‖m) + ½ KL₂(q‖m),  m = (p + q)/2,  p = softmax(z_A), q = softmax(z_B)

    With temperature="fitted" each network's logits are first divided by the temperature that minimises its negative
    log-likelihood on the fitting half of the stimuli, and the value is taken on the other half. Returns value (mean
    distance), divergence (mean JSD₂ in bits) and, if fitted, temperature_a and temperature_b. Range 0..1; a metric on
    probabilities. Undefined for scores that are no logits, and where no finite positive temperature is best.
    Source: Lin 1991, doi 10.1109/18.61115; Endres and Schindelin 2003, doi 10.1109/TIT.2003.813506.
    """
    one_of("temperature", temperature, ("none", "fitted"))
    info = ProbeInfo(
        name="output-divergence",
        title="Jensen-Shannon distance of outputs",
        kind="functional",
        formula="mean √JSD₂(softmax z_A, softmax z_B)",
        citation="Lin 1991, doi 10.1109/18.61115; Endres, Schindelin 2003, doi 10.1109/TIT.2003.813506; "
        "Guo, Pleiss, Sun, Weinberger 2017, arXiv 1706.04599 (temperature)",
        range=(0.0, 1.0),
        direction="distance",
        symmetric=True,
        metric=True,
        invariances=NO_INVARIANCES,
        convention="base 2; the distance, a square root, averaged over stimuli (others average the divergence)",
        cost="n·C",
        traps="Confidence alone moves it: two networks with the same ranking of classes differ if one is more "
        "confident; see temperature=fitted. " + ACCURACY_TRAP,
        params=(("temperature", temperature),),
    )

    def value(task: Task, a: Subject, b: Subject) -> dict[str, float | Undefined] | Undefined:
        logits = [a.scores, b.scores]
        found = {}
        if temperature == "fitted":
            fit = task.fitting
            if fit.all():
                return Undefined("there is one stimulus, and the temperature needs others to be fitted on")
            for i, name in enumerate(("temperature_a", "temperature_b")):
                best = fitted_temperature(logits[i][fit], task.y[fit])
                if isinstance(best, Undefined):
                    return best
                logits[i], found[name] = logits[i][~fit] / best, best
        divergence = np.clip(jensen_shannon(*(log_softmax(z) for z in logits)), 0.0, 1.0)
        return {"value": float(np.sqrt(divergence).mean()), "divergence": float(divergence.mean()), **found}

    return functional_probe(info, value, 2, "scores", logits=True)
