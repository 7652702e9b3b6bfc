"""The course of training in numbers: points, rows and paths, held against paths whose lengths are known."""

import weakref
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import lab.course
from lab.capture import matched_steps
from lab.comparison_layers import compare_layer
from lab.comparison_table import Group, Plan
from lab.course import Course, common_steps, moments
from lab.dynamics import DynamicsPlan, follow
from lab.errors import UsageError
from lab.shape_paths import matrix_of, no_metric, rule_means, shape_paths, tabulated, together
from probes import PROBES, Prepared, ProbeInfo, Undefined
from probes.probe import pair_probe
from runs import Store

N, SEEDS, STEPS = 60, (0, 1, 2), [0, 10, 40]
LABELS = np.arange(N) % 4


class Folder:
    """A finished run, as far as its course is looked at; seed s has the accuracy and loss of its run plus s/1000."""

    def __init__(self, rule, accuracy=(0.1, 0.5, 0.9), loss=(np.nan, 1.0, 0.1), steps=STEPS):
        self.id, self.steps = f"{rule}-0123", steps
        self.path = SimpleNamespace()
        self.spec = SimpleNamespace(seeds=SEEDS, rule=f"{rule}()", arch="mlp(5)", epochs=1)
        self.manifest = {"cohorts": [{"diverged": {}}]}
        metrics = {"validation_accuracy": accuracy, "train_loss": loss}
        self.table = pd.DataFrame(
            {"metric": metric, "layer": "", "seed": seed, "step": step, "value": value + (seed - 1) / 1000}
            for metric, values in metrics.items()
            for seed in SEEDS
            for step, value in zip(steps, values, strict=True)
        )

    def read_table(self, name):
        return self.table

    def read_bytes(self, name):
        return self.id.encode()


@pytest.fixture(autouse=True)
def stored_steps(monkeypatch):
    for module in ("lab.course", "lab.capture"):
        monkeypatch.setattr(f"{module}.list_checkpoints", lambda folder, cohort: folder.steps)


@pytest.fixture
def course(tmp_path):
    """Two rules whose networks leave common starts along lines of their own, by a distance that grows with the step."""
    seen = SimpleNamespace(y=LABELS)
    folders = [Folder("fa"), Folder("bp")]
    shapes = [{"dense1": (5,)}] * 2
    with Course(folders, ["fa", "bp"], seen, None, ["dense1"], shapes, STEPS, False, 2**24, lambda line: None) as made:
        for run, seed, step in made.nodes:
            start = np.random.default_rng([7, seed]).standard_normal((N, 5))
            moved = np.random.default_rng([run, seed]).standard_normal((N, 5))
            np.save(made._file("dense1", (run, seed, step)), start + step / 20 * moved)
        made._read_already = True
        yield made


def flat_distance():
    """‖X − Y‖_F: a metric whose paths are polygons that can be measured by hand."""
    info = ProbeInfo(
        name="flat",
        title="distance of arrays",
        kind="pair",
        formula="‖X − Y‖_F",
        citation="",
        range=(0.0, np.inf),
        direction="distance",
        symmetric=True,
        metric=True,
        invariances=frozenset(),
        convention="",
        traps="",
        cost="n·d",
    )
    return pair_probe(
        info,
        prepare=lambda x: (x,),
        value=lambda a, b: float(np.linalg.norm(a[0] - b[0])),
        permute=lambda a, order: (a[0][order],),
    )


@pytest.mark.parametrize("measure", ["debiased-cka", "angular-procrustes"])
def test_every_point_is_the_comparison_of_its_step(course, measure, tmp_path):
    """A similarity, measured at each point alone, and a metric, taken from the distances between all points."""
    probe = PROBES[measure]()
    paths = shape_paths(course, probe, None, "dense1", Store(tmp_path)) if probe.info.metric else None
    rows, pairs = follow(probe, "dense1", course, [[s, s] for s in STEPS], DynamicsPlan(stimuli=N), paths)
    assert [row["step_a"] for row in rows] == STEPS
    for place, step in enumerate(STEPS):
        trained = [{seed: np.load(course._file("dense1", (run, seed, step))) for seed in SEEDS} for run in range(2)]
        start = [{seed: np.load(course._file("dense1", (run, seed, 0))) for seed in SEEDS} for run in range(2)]
        groups = [
            Group(folder, label, step, {}, {}, {"dense1": trained[run]}, {"dense1": start[run]})
            for run, (folder, label) in enumerate(zip(course.folders, course.labels, strict=True))
        ]
        (expected,), between = compare_layer(probe, "dense1", groups, LABELS, Plan((measure,), N, 1), 2**24)
        same = set(rows[place]) - {"point", "accuracy_a", "accuracy_b", "loss_a", "loss_b", "notes"}
        assert {"between", "between_low", "ceiling_a", "ceiling_b_high", "untrained_a", "rule_effect", "rule_effect_p",
                "same_start", "seeds", "paired"} <= same  # fmt: skip
        for name in same:
            # Both ways use the same products; only their order may differ.
            wanted = expected[name]
            if isinstance(wanted, float):
                wanted = pytest.approx(wanted, rel=1e-9, abs=1e-9, nan_ok=True)
            assert rows[place][name] == wanted, name
        assert [p["value"] for p in pairs if p["point"] == place] == pytest.approx([p["value"] for p in between])
    assert rows[0]["same_start"] == pytest.approx(1.0 if measure == "debiased-cka" else 0.0, abs=1e-12)
    assert not any(name.startswith("null") for name in rows[0])


def test_against_the_step_all_runs_stand_at_one():
    assert moments([Folder("fa"), Folder("bp")], STEPS, "step") == [[0, 0], [10, 10], [40, 40]]


def test_against_accuracy_networks_are_equally_far_and_the_last_point_is_that_of_a_matched_comparison(monkeypatch):
    monkeypatch.setattr("lab.course.rule_of", lambda folder: SimpleNamespace(info=SimpleNamespace(loss="ce")))
    monkeypatch.setattr("lab.capture.rule_of", lambda folder: SimpleNamespace(info=SimpleNamespace(loss="ce")))
    slow = Folder("slow", accuracy=(0.1, 0.2, 0.6), loss=(np.nan, 2.0, 0.9))
    fast = Folder("fast", accuracy=(0.1, 0.55, 0.9), loss=(np.nan, 1.0, 0.1))
    for runs in ([slow, fast], [fast, slow]):
        found = moments(runs, STEPS, "accuracy")
        by_run = [dict(zip(("slow", "fast") if runs[0] is slow else ("fast", "slow"), at, strict=True)) for at in found]
        assert by_run == [{"slow": 0, "fast": 0}, {"slow": 10, "fast": 0}, {"slow": 40, "fast": 10}]
        assert found[-1] == matched_steps(runs, "accuracy")
        # No loss before the first step: one point fewer, and step 0 at none of them.
        found = moments(runs, STEPS, "loss")
        assert [sorted(at) for at in found] == [[10, 10], [10, 40]]
        assert found[-1] == matched_steps(runs, "loss")


def test_against_loss_rules_with_one_loss_alone(monkeypatch):
    losses = iter(["ce", "mse"])
    monkeypatch.setattr(lab.course, "rule_of", lambda folder: SimpleNamespace(info=SimpleNamespace(loss=next(losses))))
    with pytest.raises(UsageError, match=r"--against loss: .*\(ce; mse\); take --against accuracy"):
        moments([Folder("fa"), Folder("bp")], STEPS, "loss")


def test_steps_in_common():
    longer = Folder("bp", steps=[0, 10, 80])
    assert common_steps([Folder("fa"), longer], ["fa", "bp"]) == [0, 10]
    other = Folder("bp", steps=[0, 11, 80])
    with pytest.raises(UsageError, match=r"fewer than two .*\(fa: 0, 10, 40; bp: 0, 11, 80\); train them with one"):
        common_steps([Folder("fa"), other], ["fa", "bp"])


def test_two_runs_that_wait_for_a_third_have_one_row_per_pair_of_steps(course):
    rows, _ = follow(
        PROBES["debiased-cka"](), "dense1", course, [[0, 0], [0, 0], [0, 10], [0, 10], [40, 40]],
        DynamicsPlan(stimuli=N), None,
    )  # fmt: skip
    assert [(row["point"], row["step_a"], row["step_b"]) for row in rows] == [(0, 0, 0), (2, 0, 10), (4, 40, 40)]


def test_paths_of_straight_lines(course, tmp_path):
    """Networks move along lines, so that length = displacement, and a plane through two of them holds both."""
    paths = together([shape_paths(course, flat_distance(), None, "dense1", Store(tmp_path))])
    for row in paths.networks.itertuples():
        run = course.labels.index(row.rule)
        size = np.linalg.norm(np.random.default_rng([run, row.seed]).standard_normal((N, 5)))
        assert row.length == pytest.approx(2 * size, rel=1e-9)  # step 40: 40/20 of the direction
        assert row.displacement == pytest.approx(2 * size, rel=1e-9)
        assert row.tortuosity == pytest.approx(1.0, rel=1e-9)
        of = paths.checkpoints.query("rule == @row.rule and seed == @row.seed")
        assert of["leg"].tolist() == pytest.approx([np.nan, size / 2, 1.5 * size], rel=1e-9, nan_ok=True)
        assert of["velocity"].tolist() == pytest.approx([np.nan, size / 20, size / 20], rel=1e-9, nan_ok=True)
        assert of["from_start"].tolist() == pytest.approx([0, size / 2, 2 * size], rel=1e-9)
        assert of["to_end"].tolist() == pytest.approx([2 * size, 1.5 * size, 0], rel=1e-9)
        assert of["accuracy"].tolist() == pytest.approx([a + (row.seed - 1) / 1000 for a in (0.1, 0.5, 0.9)])
    (means,) = [line for line in rule_means(paths) if line["rule"] == "fa"]
    of = paths.networks.query("rule == 'fa'")["length"]
    assert means["length"] == pytest.approx(of.mean())
    half = 4.302652729911275 * of.std() / np.sqrt(3)  # Student's t with 2 degrees of freedom, 97.5 %
    assert (means["length_low"], means["length_high"]) == pytest.approx((of.mean() - half, of.mean() + half))
    assert len(paths.distances) == 18 * 17 // 2


def test_paths_are_found_again_and_their_distances_are_what_was_measured(course, tmp_path):
    probe, said = PROBES["angular-procrustes"](), []
    made = shape_paths(course, probe, None, "dense1", Store(tmp_path))
    course.say = said.append
    course._read_already = False  # reading would fail: these runs are not there
    again = shape_paths(course, probe, None, "dense1", Store(tmp_path))
    assert said == [f"paths measured earlier: {tmp_path / 'paths' / made.ids[0]}"]
    pd.testing.assert_frame_equal(made.distances, again.distances)
    D, known = matrix_of(course, again, probe, "dense1")
    course._read_already = True
    expected, fresh = course.values(probe, "dense1", course.nodes)
    np.testing.assert_array_equal(D, expected)
    assert {node: (p.d, p.undefined, p.notes) for node, p in known.items()} == {
        node: (p.d, p.undefined, p.notes) for node, p in fresh.items()
    }


def test_a_polygon_in_the_plane_has_its_length_and_no_stress(course):
    """Six networks on a plane, each around three sides of a unit square in unlike ways: all is known."""
    rng = np.random.default_rng(3)
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    points = np.concatenate([corners + rng.standard_normal(2) for _ in range(6)])
    D = np.linalg.norm(points[:, None] - points[None], axis=-1)
    found = tabulated(course, D, {node: Prepared("flat", N, 5, ()) for node in course.nodes})
    for row in found["networks"]:
        assert (row["length"], row["displacement"]) == pytest.approx((2.0, np.sqrt(2)))
        assert row["tortuosity"] == pytest.approx(np.sqrt(2))
    (of,) = found["maps"]
    assert (of["networks"], of["points"]) == (6, 18)
    assert of["stress"] < 1e-6
    assert of["negative"] < 1e-9
    drawn = np.array([[line["x"], line["y"]] for line in found["checkpoints"]])
    apart = np.linalg.norm(drawn[:, None] - drawn[None], axis=-1)
    np.testing.assert_allclose(apart, D, atol=1e-6)  # of a thousand steps of majorisation


def test_a_network_without_a_value_at_one_step_has_no_path_and_says_why(course):
    rng = np.random.default_rng(3)
    points = rng.standard_normal((len(course.nodes), 4))
    D = np.linalg.norm(points[:, None] - points[None], axis=-1)
    D[4], D[:, 4] = np.nan, np.nan  # the second network's second step
    lost = {node: Prepared("flat", N, 5, (), Undefined("all units are silent") if i == 4 else None)
            for i, node in enumerate(course.nodes)}  # fmt: skip
    found = tabulated(course, D, lost)
    assert [row["undefined"] for row in found["networks"]] == ["", "all units are silent", "", "", "", ""]
    assert np.isnan(found["networks"][1]["length"])
    assert (found["maps"][0]["networks"], found["maps"][0]["points"]) == (5, 15)
    gone = [line for line in found["checkpoints"] if np.isnan(line["x"])]
    assert {(line["rule"], line["seed"]) for line in gone} == {("fa", 1)}


def test_no_map_where_two_sound_networks_have_no_distance(course):
    D = 1.0 - np.eye(len(course.nodes))
    D[0, 17] = D[17, 0] = np.nan
    found = tabulated(course, D, {node: Prepared("flat", N, 5, ()) for node in course.nodes})
    assert np.isnan(found["maps"][0]["stress"])
    assert all(row["length"] == 2.0 for row in found["networks"])


def test_a_measure_that_is_no_metric_names_one():
    why = no_metric(PROBES["linear-cka"]())
    assert "linear-cka is no metric" in why
    assert "angular-procrustes is one" in why
    assert "\n" not in why
    assert no_metric(PROBES["shape"]()) is None


def test_too_few_stimuli_are_refused_where_there_is_no_null(course):
    for node in course.nodes:
        np.save(course._file("dense1", node), np.random.default_rng(0).standard_normal((N, 40)))
    with pytest.raises(
        UsageError, match=r"linear-cka without a null would mislead: .*60 stimuli and 40 .*--stimuli 80"
    ):
        list(course.prepared(PROBES["linear-cka"](), "dense1", course.nodes))
    (only,) = course.prepared(PROBES["debiased-cka"](), "dense1", course.nodes[:1])
    assert (only[0], only[1].d) == (course.nodes[0], 40)


def test_what_does_not_fit_the_memory_is_not_kept_there_and_changes_no_number(course):
    """Twelve networks, of this and of the first step, are 4.6 MB; with 2 MiB no more than these are ever there."""
    rng, probe, alive, most = np.random.default_rng(5), PROBES["debiased-cka"](), [], 0
    for node in course.nodes:
        np.save(course._file("dense1", node), rng.standard_normal((400, 120)))
    course.seen = SimpleNamespace(y=np.arange(400) % 4)
    course.shapes = [{"dense1": (120,)}] * 2

    def counted(x):
        nonlocal most
        made = probe.prepare(x)
        alive.extend(map(weakref.ref, made.arrays))
        most = max(most, sum(array.nbytes for ref in alive if (array := ref()) is not None))
        return made

    found = []
    for course.memory in (2**30, 2**21):
        most = 0
        found.append(follow(probe._replace(prepare=counted), "dense1", course, [[0, 0], [10, 40]],
                            DynamicsPlan(stimuli=400), None))  # fmt: skip
        assert (most <= 2**21) == (course.memory == 2**21)
    for whole, part in zip(*(pd.DataFrame(pairs)["value"] for _, pairs in found), strict=True):
        assert part == pytest.approx(whole, rel=1e-9, abs=1e-12)


def test_no_interval_of_a_course_leaves_the_range_of_its_measure(course):
    """Before training two rules' networks of one seed are one network: 1, which rounding leaves by a digit."""
    rows, _ = follow(PROBES["linear-cka"](), "dense1", course, [[0, 0], [10, 40]], DynamicsPlan(stimuli=N), None)
    for row in rows:
        for name in ("between", "same_start", "ceiling_a", "ceiling_b", "untrained_a", "untrained_b"):
            assert min(0.0, row[name]) <= row[f"{name}_low"] <= row[f"{name}_high"] <= max(1.0, row[name]), name
        assert -1.0 <= row["rule_effect_low"] <= row["rule_effect_high"] <= 1.0
