"""Tables as a comparison, a run and a spectrum give them, made up, so that every number in a figure is known."""

import itertools

import numpy as np
import pandas as pd

SIX = ["bp", "fa", "dfa", "es", "ff", "frozen"]


def comparison(rules=("bp", "fa"), seeds=4, layers=("dense1", "dense2"), direction="similarity", permutations=200):
    """(pairs, rows) of a made-up comparison; fewer than three seeds have no interval."""
    rng = np.random.default_rng(0)
    pairs, rows = [], []
    same = {"measure": "debiased-cka" if direction == "similarity" else "procrustes", "direction": direction}

    def value(alike):
        alike = float(np.clip(alike + rng.normal(0, 0.015), 0, 1))
        return alike if direction == "similarity" else 1 - alike

    def spread(name, centre, row):
        row[name] = value(centre)
        half = 0.03 if seeds > 2 else np.nan
        row[f"{name}_low"], row[f"{name}_high"] = row[name] - half, row[name] + half

    for depth, layer in enumerate(layers):
        for i, rule in enumerate(rules):
            for s, t in itertools.combinations(range(seeds), 2):
                pairs.append({**same, "layer": layer, "kind": "within", "rule_a": rule, "seed_a": s, "rule_b": rule,
                              "seed_b": t, "value": value(0.95 - 0.02 * i - 0.04 * depth)})  # fmt: skip
            for s in range(seeds):
                pairs.append({**same, "layer": layer, "kind": "untrained", "rule_a": rule, "seed_a": s, "rule_b": rule,
                              "seed_b": s, "value": value(0.7 - 0.1 * depth)})  # fmt: skip
        for (i, a), (j, b) in itertools.combinations(enumerate(rules), 2):
            for s, t in itertools.product(range(seeds), repeat=2):
                alike = 0.85 - 0.05 * j - 0.05 * depth + 0.04 * (s == t)
                pairs.append({**same, "layer": layer, "kind": "between", "rule_a": a, "seed_a": s, "rule_b": b,
                              "seed_b": t, "value": value(alike)})  # fmt: skip
            row = {**same, "layer": layer, "rule_a": a, "rule_b": b, "n": 1000, "seeds": seeds, "match": "steps"}
            row |= {"permutations": permutations, "accuracy_a": 0.98 - 0.02 * i, "accuracy_b": 0.98 - 0.02 * j}
            spread("between", 0.85 - 0.05 * j - 0.05 * depth, row)
            spread("same_start", 0.89 - 0.05 * j - 0.05 * depth, row)
            for side, k in (("a", i), ("b", j)):
                spread(f"ceiling_{side}", 0.95 - 0.02 * k - 0.04 * depth, row)
                spread(f"untrained_{side}", 0.7 - 0.1 * depth, row)
            row |= {
                "null_global": value(0.02),
                "null_within": value(0.55),
                "null_global_p": 0.005,
                "null_global_draws": 0,
                "null_within_draws": 200,
                "null_within_p": 0.01,
            }
            rows.append(row)
    return pd.DataFrame(pairs), pd.DataFrame(rows)


def metrics(rules=("bp", "fa"), seeds=3, layers=("dense1", "dense2", "output")):
    """The metrics tables of runs, one below the other, with a column `rule`."""
    rng = np.random.default_rng(1)
    steps = [0, 10, 30, 100, 300, *(430 * epoch for epoch in range(1, 11))]
    lines = []
    for (i, rule), seed, step in itertools.product(enumerate(rules), range(seeds), steps):
        learnt = 1 - np.exp(-step / (150 * (i + 1)))
        same = {"rule": rule, "seed": seed, "step": step, "epoch": step / 430}
        accuracy = 0.1 + (0.87 - 0.04 * i) * learnt + rng.normal(0, 0.008)
        lines.append({**same, "layer": "", "metric": "validation_accuracy", "value": accuracy})
        lines.append({**same, "layer": "", "metric": "train_loss", "value": 2.3 - 2 * learnt})
        for depth, layer in enumerate(layers):
            angle = 0.0 if rule == "bp" else 90 - (20 + 12 * depth - 3 * i) * learnt + rng.normal(0, 2)
            lines.append({**same, "layer": layer, "metric": "angle", "value": np.nan if rule == "frozen" else angle})
    return pd.DataFrame(lines)


def spectra(rules=("bp", "fa"), seeds=3, layers=(("dense1", 256), ("dense2", 128))):
    """(curves, fits) of power laws with known exponents."""
    rng = np.random.default_rng(2)
    curves, fits = [], []
    for (i, rule), seed, (layer, width) in itertools.product(enumerate(rules), range(seeds), layers):
        exponent = 1.0 + 0.25 * i + rng.normal(0, 0.03)
        index = np.arange(1, width + 1)
        eigenvalues = index**-exponent * np.exp(-((index / width) ** 6) * 4)
        same = {"rule": rule, "seed": seed, "layer": layer}
        for k, value in zip(index, eigenvalues / eigenvalues.sum(), strict=True):
            curves.append({**same, "index": int(k), "eigenvalue": float(value)})
        fits.append({**same, "exponent": exponent, "low": 11.0, "high": 64.0, "r2": 0.99})
    return pd.DataFrame(curves), pd.DataFrame(fits)


def course(rules=("bp", "fa"), seeds=4, layers=("dense1", "dense2"), against="step", steps=(0, 10, 46, 92, 460)):
    """Rows of made-up dynamics: a comparison at every step; against loss and accuracy the second rule lags behind."""
    found = []
    for place, step in enumerate(steps):
        if against == "loss" and not step:
            continue
        rows = comparison(rules, seeds, layers)[1]
        rows = rows.drop(columns=[name for name in rows if name.startswith("null")])
        for side in "ab":
            behind = {rule: 0.02 * i * (against != "step") for i, rule in enumerate(rules)}
            at = np.array([behind[rule] for rule in rows[f"rule_{side}"]])
            rows[f"step_{side}"], rows[f"seeds_{side}"], rows[f"diverged_{side}"] = step, seeds, 0
            rows[f"accuracy_{side}"] = 0.1 + 0.2 * place - at
            rows[f"loss_{side}"] = 2.3 * 0.3**place + at if step else np.nan
            for end in ("", "_low", "_high"):  # nothing has happened at the start
                rows[f"ceiling_{side}{end}"] -= 0.4 * 0.5**place
        rows["point"] = place
        found.append(rows)
    return pd.concat(found, ignore_index=True)


def paths(
    rules=("bp", "fa"), seeds=3, layers=("dense1", "dense2"), measure="angular-procrustes", steps=(0, 10, 46, 92)
):
    """(checkpoints, maps) of made-up paths: from one start per seed, every rule in a direction of its own."""
    rng = np.random.default_rng(4)
    lines = []
    for layer, (i, rule), seed in itertools.product(layers, enumerate(rules), range(seeds)):
        x, y = 0.0, 0.3 * seed
        for step in steps:
            same = {"measure": measure, "layer": layer, "rule": rule, "run": f"{rule}-0123", "seed": seed, "step": step}
            lines.append({**same, "x": x, "y": y, "undefined": ""})
            x, y = x + np.cos(i) + rng.normal(0, 0.05), y + np.sin(i) + rng.normal(0, 0.05)
    about = {"measure": measure, "n": 1000, "networks": len(rules) * seeds, "stress": 0.12, "negative": 0.01}
    maps = [{**about, "layer": layer, "points": len(lines) // len(layers), "explained": 0.6} for layer in layers]
    return pd.DataFrame(lines), pd.DataFrame(maps)
