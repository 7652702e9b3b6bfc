"""`lab variance`: the factorial design from training to table, and what it says of designs with holes."""

import csv
import io
import shlex

import pytest

QUICK = ("--stimuli", "60", "--permutations", "99")


@pytest.fixture(scope="module")
def store(ask, tiny, tmp_path_factory):
    """bp and fa × initialisations 0, 1, 2 × orders 0, 1; all but fa with order 1."""
    place = tmp_path_factory.mktemp("factorial")
    for rule, order in (("bp", 0), ("bp", 1), ("fa", 0)):
        ask("train", *tiny, "--rule", rule, "--seeds", "3", "--order-seed", order, "--store", place)
    return place


@pytest.fixture(scope="module")
def complete(store, refuse, ask):
    """The same store with the run that the refusal asks for, trained by the command it gives."""
    message = refuse(2, "variance", "bp", "fa", "--store", store, *QUICK)
    assert "3 of 12 combinations are missing, such as fa with initialisation 0 and data order 1: lab train" in message
    command = shlex.split(message[message.index("lab train") :])
    ask(*command[1:], "--store", store)
    return store


def test_the_split(complete, answer, ask):
    found = answer("variance", "bp", "fa", "--store", complete, *QUICK)
    assert found["levels"] == {"rule": ["bp", "fa"], "initialisation": [0, 1, 2], "data order": [0, 1]}
    rows = found["rows"]
    assert [(row["layer"], row["factor"], row["df"], row["levels"]) for row in rows] == [
        ("dense1", "rule", 1, 2),
        ("dense1", "initialisation", 2, 3),
        ("dense1", "data order", 1, 2),
        ("dense1", "rule x initialisation", 2, None),
        ("dense1", "rule x data order", 1, None),
        ("dense1", "initialisation x data order", 2, None),
        ("dense1", "rest", 2, None),
    ]
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    # Distinct exchanges: 2² of rules and of orders in three initialisations, 3! of initialisations in two rules.
    assert [row["floor"] for row in rows] == [pytest.approx(1 / 4), pytest.approx(1 / 6), 1 / 4, *[None] * 4]
    assert all(row["floor"] <= row["p"] <= 1 for row in rows[:3])
    assert all(row["p"] is None for row in rows[3:])
    assert found["notes"] == [
        f"p of {name} cannot be below {floor}, whatever the networks: train more initialisations"
        for name, floor in (("rule", "0.25"), ("initialisation", "0.167"), ("data order", "0.25"))
    ]
    assert len(found["networks"]) == 12
    assert len({(n["rule"], n["initialisation"], n["data order"]) for n in found["networks"]}) == 12
    again = ask("variance", "bp", "fa", "--store", complete, "--csv", *QUICK)
    assert again.stderr.startswith("split earlier: ")
    lines = list(csv.DictReader(io.StringIO(again.stdout)))
    assert [float(line["share"]) for line in lines] == pytest.approx([row["share"] for row in rows], abs=1e-9)


def test_the_table(complete, ask):
    said = ask("variance", "bp", "fa", "-m", "angular-procrustes", "--store", complete, *QUICK).stdout
    first, header, *lines = said.splitlines()
    assert first == "angular-procrustes (squared distance: value squared), dense1"
    assert header.split() == [
        "factor",
        "levels",
        "df",
        "share",
        "by",
        "chance",
        "variance",
        "component",
        "p",
        "(floor)",
    ]
    assert [line.split("  ")[0] for line in lines[:4]] == [
        "rule",
        "initialisation",
        "data order",
        "rule x initialisation",
    ]
    assert [line.split()[-1] for line in lines[:4]] == ["(.250)", "(.167)", "(.250)", "-"]
    assert lines[6].startswith("rest")
    assert "n = 60 test stimuli; 12 networks: 2 rules x 3 initialisations x 2 data orders. " in said
    assert (
        "p: levels exchanged as whole units (rule within initialisation; initialisation within rule and data order; "
        "data order within initialisation),\nin all ways or in 99 random ones; floor: the least p" in said
    )


@pytest.mark.parametrize("rest", [0.1, -0.1])
def test_a_share_below_0_is_explained_where_there_is_one(rest, capsys):
    import pandas as pd

    from lab.cli.variance import print_variance
    from lab.variance import Variance

    same = {"measure": "shape", "direction": "distance", "layer": "dense1", "n": 60, "match": "steps", "networks": 4}
    line = {**same, "levels": 2, "df": 1, "by_chance": 1 / 3, "variance": 0.1, "undefined": ""}
    rows = [
        {**line, "factor": "rule", "share": 1 - rest, "p": 0.5, "floor": 0.5, "within": "initialisation"},
        {**line, "factor": "rest", "share": rest, "p": float("nan"), "floor": float("nan"), "within": ""},
    ]
    about = {"levels": {"rule": ["bp", "fa"]}, "plan": {"permutations": 99}, "notes": []}
    print_variance(Variance("id", pd.DataFrame(rows), pd.DataFrame(), about))
    said = capsys.readouterr().out
    assert f"{100 * rest:.1f} %" in said
    assert ("note: a share below 0" in said) == (rest < 0)


def test_a_factor_with_one_level_is_left_out_and_named(complete, answer):
    found = answer("variance", "bp", "--store", complete, *QUICK)
    assert [row["factor"] for row in found["rows"]] == ["initialisation", "data order", "rest"]
    assert [row["within"] for row in found["rows"]] == ["data order", "initialisation", ""]
    assert found["notes"][0] == "rule is bp for all, and no factor"


def test_runs_whose_order_goes_with_the_seed_are_told_what_to_train(refuse, runs):
    message = refuse(2, "variance", runs["bp"], runs["fa"], *QUICK)
    assert "12 of 18 combinations are missing, such as bp with initialisation 1 and data order 0: lab train" in message
    assert message.endswith("--seeds 1,2 --order-seed 0")


REFUSED = [
    (["bp", "bp"], 2, ["a run is named twice"]),
    (["bp", "other"], 2, ["different data"]),
    (["bp", "fa", "-m", "gulp"], 2, ["gives no squared distances", "these do: linear-cka, debiased-cka"]),
    (["bp", "fa", "-m", "agreement"], 2, ["gives no squared distances"]),
    (["bp", "fa", "-m", "sparsity"], 2, ["describes one network, not a pair"]),
    (["bp", "fa", "--json", "--csv"], 2, ["--json and --csv exclude each other"]),
    (["bp", "fa", "--permutations", "0"], 2, ["'--permutations': 0 is not in the range"]),
]


@pytest.mark.parametrize(("args", "code", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_refusals(refuse, runs, args, code, words):
    message = refuse(code, "variance", *(runs.get(arg, arg) for arg in args))
    assert [word for word in words if word not in message] == []


def test_what_only_a_complete_design_can_be_refused_for(complete, refuse):
    message = refuse(2, "variance", "bp", "fa", "--store", complete, "--layer", "dense9", *QUICK)
    assert "--layer dense9 is not a hidden block of all runs; they share dense1" in message
    message = refuse(2, "variance", "bp", "fa", "--store", complete, "--stimuli", "12", "-m", "linear-cka")
    assert "without a null would mislead" in message
