"""`lab describe`: the right numbers over the right networks and steps, a reason for every missing one, and refusals."""

import csv
import io
import json

import numpy as np
import pytest

from lab.capture import dataset_of, layer_shapes, observe, stimuli
from lab.cli.numbers import grouped
from runs import Store, list_checkpoints

QUICK = ("--stimuli", "60")


@pytest.fixture(scope="module")
def shown(home, runs):
    """Run and step -> what its networks show, as the library reads them, and the labels."""
    store = Store(home / "store")

    def read(name, step):
        folder = store.find(runs[name])
        dataset = dataset_of([folder])
        seen = stimuli(dataset, 60)
        return observe(folder, step, seen, dataset), seen.y

    return read


def ratio(x: np.ndarray) -> float:
    """Participation ratio by its definition, from the eigenvalues of the covariance."""
    found = np.linalg.eigvalsh(np.cov(x.astype(np.float64).T))
    return found.sum() ** 2 / (found**2).sum()


def interval(values) -> tuple[float, float, float]:
    from scipy import stats

    mean = np.mean(values)
    return (mean, *stats.t.interval(0.95, len(values) - 1, mean, stats.sem(values)))


def test_a_single_measure_is_the_mean_over_seeds_of_its_definition(answer, runs, shown):
    (row,) = answer("describe", runs["bp"], "-m", "participation-ratio", *QUICK)["rows"]
    assert (row["measure"], row["kind"], row["layer"], row["rule"]) == ("participation-ratio", "single", "dense1", "bp")
    assert (row["run"], row["step"], row["n"], row["seeds"], row["diverged"]) == (runs["bp"], 10, 60, 3, 0)
    for name, step in (("value", 10), ("untrained", 0)):
        mean, low, high = interval([ratio(h) for h in shown("bp", step)[0].hidden["dense1"].values()])
        wanted = [mean, max(low, 1.0), high]  # no participation ratio is below 1, and three seeds leave a wide interval
        found = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
        assert found == pytest.approx(wanted, rel=1e-8)  # JSON keeps ten digits
    assert (row["undefined"], row["notes"].removeprefix("1 of 60 rows are all zero (no unit responds)")) == ("", "")


def test_a_functional_measure_is_the_mean_over_seeds_of_its_definition(answer, runs, shown):
    (row,) = answer("describe", runs["bp"], "-m", "calibration-error(bins=6)", *QUICK)["rows"]
    assert (row["kind"], row["layer"]) == ("functional", "output")
    observed, y = shown("bp", 10)
    errors, nll = [], []
    for scores in observed.scores.values():
        z = scores.astype(np.float64)
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        order = np.argsort(p.max(axis=1))
        gaps = (p.argmax(axis=1) == y)[order].astype(float) - p.max(axis=1)[order]
        errors.append(np.abs(gaps.reshape(6, 10).sum(axis=1)).sum() / 60)
        nll.append(-np.log(p[np.arange(60), y]).mean())
    # Confidences are distinct here, so bins of ten are six slices of their order.
    assert [row["value"], row["value_low"], row["value_high"]] == pytest.approx(interval(errors), rel=1e-8)
    assert row["parts"]["nll"] == pytest.approx(np.mean(nll), rel=1e-8)


def test_what_a_probe_asks_for_is_handed_over(answer, runs, shown):
    """The readout is the last linear block (nc3), predictions are the networks' own (nc4), labels the stimuli's."""
    from probes import PROBES

    rows = answer("describe", runs["bp"], *("-m", "nc1", "-m", "nc3", "-m", "nc4"), *QUICK)["rows"]
    observed, y = shown("bp", 10)
    wanted = {"nc1": [], "nc3": [], "nc4": []}
    for seed, h in observed.hidden["dense1"].items():
        output = observed.stored[seed]["params"]["output"]
        answers = (h @ output["kernel"] + output["bias"]).argmax(axis=1)
        wanted["nc1"].append(PROBES["nc1"]().value(h, y)["value"])
        wanted["nc3"].append(PROBES["nc3"]().value(h, y, output["kernel"]))
        wanted["nc4"].append(PROBES["nc4"]().value(h, y, answers))
    for row in rows:
        values = [v["value"] if isinstance(v, dict) else v for v in wanted[row["measure"]]]
        assert row["value"] == pytest.approx(np.mean(values), rel=1e-8)


def test_every_step_with_its_loss_and_accuracy(answer, home, runs):
    rows = answer("describe", runs["bp"], "-m", "sparsity", "--steps", "all", *QUICK)["rows"]
    assert [row["step"] for row in rows] == list_checkpoints(Store(home / "store").find(runs["bp"]), 0) == [0, 10]
    assert rows[0]["value"] == rows[0]["untrained"] == rows[-1]["untrained"]
    assert rows[-1]["value"] == answer("describe", runs["bp"], "-m", "sparsity", *QUICK)["rows"][0]["value"]
    metrics = Store(home / "store").find(runs["bp"]).read_table("metrics")
    for column, metric in (("loss", "train_loss"), ("accuracy", "validation_accuracy")):
        of = metrics[(metrics["metric"] == metric) & (metrics["layer"] == "") & (metrics["step"] == 10)]
        assert rows[-1][column] == pytest.approx(of["value"].mean(), rel=1e-6)
    assert rows[0]["loss"] is None  # before the first step there is none


def test_the_table_csv_and_the_stored_answer_agree(answer, ask, home, runs):
    said = ask("describe", runs["bp"], runs["fa"], *QUICK)
    assert said.stdout.splitlines()[0] == "participation-ratio, dense1"
    assert said.stdout.splitlines()[1].startswith("rule  step  value [95 %]")
    assert "n = 60 test stimuli; means over the seeds" in said.stdout
    again = ask("describe", runs["bp"], runs["fa"], *QUICK, "--csv")
    assert again.stderr.startswith("described earlier: ")
    lines = list(csv.DictReader(io.StringIO(again.stdout)))
    assert [line["rule"] for line in lines] == ["bp", "fa"] * 5
    found = answer("describe", runs["bp"], runs["fa"], *QUICK)
    assert [float(line["value"]) for line in lines] == pytest.approx([row["value"] for row in found["rows"]], abs=1e-9)
    place = home / "store" / "descriptions" / found["description"]
    assert sorted(path.name for path in place.iterdir()) == ["description.json", "rows.parquet"]
    assert json.loads((place / "description.json").read_text())["runs"] == [runs["bp"], runs["fa"]]


def test_seeds_that_diverged_are_counted_and_nothing_is_made_up(answer, ask, runs):
    (row,) = answer("describe", runs["lost"], "-m", "sparsity", *QUICK)["rows"]
    assert (row["value"], row["untrained"], row["seeds"], row["diverged"]) == (None, None, 0, 2)
    assert row["undefined"] == "every seed diverged"
    assert "2 seeds diverged and are left out" in ask("describe", runs["lost"], "-m", "sparsity", *QUICK).stdout


def test_what_a_rule_cannot_give_has_the_reason(answer, copied, tiny):
    """Lazy networks answer by their distance from the start: no known logits, no cut between layers, no readout."""
    run = answer("train", *tiny, "--rule", "lazy", "--epochs", "0", "--seeds", "1", "--store", copied)["run"]
    measures = ("calibration-error", "tangent-alignment", "jacobian-volume", "nc3", "sparsity")
    options = [word for name in measures for word in ("-m", name)]
    rows = answer("describe", run, *options, *QUICK, "--store", copied)["rows"]
    reasons = [row["undefined"] for row in rows]
    assert [row["layer"] for row in rows] == ["output", "output", "dense1", "dense1", "dense1"]
    assert "its scores are not known to be logits" in reasons[0]
    assert "lazy reads its networks in a way of its own" in reasons[1]
    assert reasons[2] == reasons[1]
    assert "no linear readout" in reasons[3]
    assert reasons[4] == ""
    assert rows[4]["value"] is not None
    assert rows[4]["value_low"] is None
    assert "no interval" in rows[4]["notes"]


def test_seeds_without_a_value_are_left_out_and_named():
    """The mean is over the seeds that have one; a part is a mean over those that have it."""
    from lab.description import cells
    from probes import Undefined

    gone = Undefined("no unit varies")
    now = {0: {"value": 1.0, "more": 5.0}, 1: gone, 2: {"value": 4.0, "more": gone}, 3: {"value": gone, "more": 1.0}}
    row = cells(now, dict.fromkeys(now, gone), (0.0, np.inf))
    assert (row["value"], row["seeds"], row["undefined"]) == (2.5, 2, "")
    assert json.loads(row["parts"]) == {"more": 3.0}
    assert "seed 1 undefined: no unit varies" in row["notes"]
    assert "seed 3 undefined: no unit varies" in row["notes"]
    assert "untrained undefined: no unit varies" in row["notes"]
    row = cells(dict.fromkeys(now, gone), now, (0.0, np.inf))
    assert (np.isnan(row["value"]), row["seeds"], row["undefined"]) == (True, 0, "no unit varies")


def test_the_list_of_probes_says_what_takes_them(answer, ask, refuse):
    kinds = {card["name"]: (card["kind"], card["networks"]) for card in answer("probes")["probes"]}
    assert [kinds[name] for name in ("nc1", "linear-cka")] == [("single", 1), ("pair", 2)]
    assert [kinds[name] for name in ("hessian", "stitching")] == [("functional", 1), ("functional", 2)]
    said = ask("probes", "stitching").stdout
    assert "kind          functional, of two networks" in said
    assert "Lenc, Vedaldi 2015" in said
    assert "`lab describe --measure hessian` takes stored runs" in refuse(2, "measure", "hessian", "a.npy")


REFUSED = [
    (["bp", "bp"], 2, ["a run is named twice"]),
    (["bp", "other"], 2, ["different data (tiny, other)"]),
    (["bp", "--layer", "dense9"], 2, ["--layer dense9 is not a hidden block of", "it has dense1"]),
    (["bp", "--measure", "linear-cka"], 2, ["compares two networks (`lab compare`)", "participation-ratio", "hessian"]),
    (["bp", "--measure", "stitching"], 2, ["compares two networks"]),
    (["bp", "--measure", "concept-probe"], 2, ["`lab measure concept-probe` takes your own numbers"]),
    (["bp", "--measure", "rank"], 2, ["unknown name 'rank'", "`lab probes` lists them"]),
    (["bp", "--measure", "hessian(k=0)"], 2, ["k=0"]),
    (["bp", "--stimuli", "201"], 2, ["give 10 to 200"]),
    (["bp", "--steps", "some"], 2, ["'some' is not one of 'last', 'all'"]),
    (["bp", "--json", "--csv"], 2, ["--json and --csv exclude each other"]),
    (["nothing-like-it"], 4, ["no run 'nothing-like-it'"]),
    ([], 2, ["Missing argument"]),
]


@pytest.mark.parametrize(("args", "code", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusals(refuse, runs, args, code, words):
    more = [] if "--stimuli" in args else QUICK
    message = refuse(code, "describe", *(runs.get(arg, arg) for arg in args), *more)
    assert [word for word in words if word not in message] == []


def test_feature_maps_are_flattened_unless_said_and_the_name_says_it(answer, home, runs):
    """Effective numbers by hand: participation ratio of flattened, pooled and laid out maps of an untrained network."""
    folder = Store(home / "store").find(runs["conv"])
    dataset = dataset_of([folder])
    observed = observe(folder, 0, stimuli(dataset, 60), dataset)
    h, shape = observed.hidden["conv1"][0], observed.shapes["conv1"]
    assert layer_shapes(folder, dataset) == observed.shapes
    assert int(np.prod(shape)) == h.shape[1]
    maps = h.astype(np.float64).reshape(60, *shape)
    rows = {"flatten": h, "pool": maps.mean(axis=(1, 2)), "positions": maps.reshape(-1, shape[-1])}
    for how, x in rows.items():
        measure = "participation-ratio" if how == "flatten" else f"participation-ratio(maps={how})"
        (row,) = answer("describe", runs["conv"], "-m", measure, "--stimuli", "60")["rows"]
        assert row["measure"] == f"participation-ratio(maps={how})"
        assert row["value"] == pytest.approx(ratio(x), rel=1e-6)


def test_few_stimuli_for_many_units_are_said_beside_the_value(answer, runs):
    """30 stimuli, 3 · 3 · 2 units of flattened maps but 2 of pooled ones."""
    measures = ("-m", "participation-ratio(maps=flatten)", "-m", "participation-ratio(maps=pool)", "-m", "dead-units")
    flat, pooled, dead = answer("describe", runs["conv"], *measures, "--stimuli", "30")["rows"]
    assert "with n = 30 stimuli and 18 units, the value is biased low" in flat["notes"]
    assert "biased" not in pooled["notes"] + dead["notes"]


def test_notes_that_differ_in_their_counts_alone_are_one():
    notes = ["3 of 60 rows are zero", "fa: 3 of 60 rows", "7 of 60 rows are zero", "no null", "no null"]
    assert grouped([*notes, "fa: 2 of 60 rows"]) == ["3 to 7 of 60 rows are zero", "fa: 2 to 3 of 60 rows", "no null"]


def test_labels_go_with_positions_and_a_readout_of_pooled_maps_does_not_exist(answer, runs):
    options = ("-m", "nc1(maps=positions)", "-m", "nc3(maps=pool)", "-m", "nc3", "--stimuli", "60")
    rows = answer("describe", runs["conv"], *options)["rows"]
    assert [row["measure"] for row in rows] == ["nc1(maps=positions)", "nc3(maps=pool)", "nc3(maps=flatten)"]
    assert [row["value"] is None for row in rows] == [False, True, False]
    assert "undefined" in rows[1]["notes"]
