"""`lab measure` on anybody's arrays: the right number, a stable answer, and one line for what cannot be measured."""

import numpy as np
import pytest

N = 60
rng = np.random.default_rng(2)
A, B = rng.normal(size=(N, 5)), rng.normal(size=(N, 7))
Y = np.arange(N) % 3


def broken() -> np.ndarray:
    x = A.copy()
    x[3, 1], x[7] = np.nan, np.inf
    return x


ARRAYS = {
    "a": A,
    "b": B,
    "y": Y,
    "w": np.eye(5, 3),
    "answers": np.where(np.arange(N) < 15, 0, Y),
    "halves": Y / 2,
    "floats": Y.astype(np.float32),
    "words": np.array(["cat", "dog", "owl"])[Y],
    "y-short": Y[:50],
    "short": A[:50],
    "nan": broken(),
    "flat": A[:, 0],
    "deep": A.reshape(N, 5, 1),
    "scalar": np.float64(3),
    "none": np.zeros((0, 5)),
    "objects": np.array([{}, None], dtype=object),
    "complex": A + 1j,
    "integer": (100 * A).astype(np.int16),
    "half": A.astype(np.float16),
    "fortran": np.asfortranarray(A),
    "constant": np.ones((N, 4)),
    "two": A[:2],
    "one": A[:1],
    "rare": (np.arange(N) == 0).astype(int),
    "single-unit": A[:, :1],
    "wide": rng.normal(size=(N, 40)),
    "maps": rng.normal(size=(N, 3, 4, 5)),
    "turned": rng.normal(size=(N, 4, 3, 6)),
    "same-maps": rng.normal(size=(N, 3, 4, 7)),
    "tokens": rng.normal(size=(N, 12, 5)),
    "nan-maps": np.where(np.arange(N * 60).reshape(N, 3, 4, 5) == 70, np.nan, 1.0),
    "blocks": np.arange(N) // 10,
    "own-blocks": np.arange(N),
    "each": np.arange(N),
    "twins": np.repeat(A[: N // 2], 2, axis=0),
}
IDS = np.array([f"img{i}" for i in range(N)])
SWAPPED = IDS.copy()
SWAPPED[[4, 9]] = SWAPPED[[9, 4]]
NAMED = {
    "named": (A, IDS),
    "also": (B, IDS),
    "swapped": (B, SWAPPED),
    "others": (B, np.array([*IDS[:-1], "new"])),
    "fewer": (B[:50], IDS[:50]),
    "twice": (B, np.array([*IDS[:-1], "img0"])),
    "too-many": (B, np.array([*IDS, "img60"])),
}


@pytest.fixture(scope="module", autouse=True)
def arrays(tmp_path_factory):
    place = tmp_path_factory.mktemp("arrays")
    for name, array in ARRAYS.items():
        np.save(place / f"{name}.npy", array)
    np.savez(place / "several.npz", a=A, b=B)
    for name, (x, ids) in NAMED.items():
        np.savez(place / f"{name}.npz", features=x, ids=ids)
    (place / "text.npy").write_text("0.1 0.2\n0.3 0.4\n")
    (place / "empty.npy").write_bytes(b"")
    (place / "cut.npy").write_bytes((place / "a.npy").read_bytes()[:400])
    (place / "folder.npy").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield place


def cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA by its definition, from the singular values of nothing but centred features."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.sum((x.T @ y) ** 2) / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


REFUSED = [
    ("linear-cka a.npy", 2, ["linear-cka takes 2 arrays or more, not 1"]),
    ("participation-ratio a.npy b.npy", 2, ["participation-ratio takes 1 array, not 2"]),
    ("linear-kca a.npy b.npy", 2, ["unknown name 'linear-kca'", "Did you mean 'linear-cka'?", "`lab probes`"]),
    ("mutual-knn(k=0) a.npy b.npy", 2, ["'mutual-knn(k=0)'", "k=0 must be a whole number of at least 1"]),
    ("mutual-knn(j=3) a.npy b.npy", 2, ["mutual-knn has no 'j'"]),
    ("rsa(foo) a.npy b.npy", 2, ["dissimilarity='foo' is not known", "sqeuclidean, correlation"]),
    ("linear-cka( a.npy b.npy", 2, ["was never closed"]),
    ("linear-cka a.npy short.npy", 1, ["60 and 50 rows", "row i of both must be the same stimulus"]),
    ("linear-cka nan.npy b.npy", 1, ["nan.npy has 6 non-finite entries in 2 of 60 rows (rows 3, 7)"]),
    ("linear-cka a.npy nan.npy", 1, ["nan.npy has 6 non-finite entries"]),
    ("linear-cka flat.npy b.npy", 1, ["flat.npy has shape (60,)", "flatten or pool explicitly"]),
    ("linear-cka deep.npy b.npy", 1, ["deep.npy has shape (60, 5, 1)", "stimuli × units"]),
    ("linear-cka scalar.npy b.npy", 1, ["scalar.npy has shape ()"]),
    ("participation-ratio none.npy", 1, ["none.npy has shape (0, 5)", "at least one row"]),
    ("linear-cka complex.npy b.npy", 1, ["complex.npy has dtype complex128", "convert it first"]),
    ("linear-cka words.npy b.npy", 1, ["words.npy has dtype <U3"]),
    ("linear-cka objects.npy b.npy", 1, ["objects.npy", "it holds Python objects", "save it with numpy.save"]),
    ("linear-cka text.npy b.npy", 1, ["text.npy", "or text", "save it with numpy.save"]),
    ("linear-cka empty.npy b.npy", 1, ["empty.npy is not a .npy file of numbers"]),
    ("linear-cka cut.npy b.npy", 1, ["cut.npy is not a .npy file of numbers", "Expected (60, 5)"]),
    ("linear-cka folder.npy b.npy", 1, ["folder.npy is not a .npy file of numbers", "Is a directory"]),
    ("linear-cka several.npz b.npy", 1, ["several.npz holds no 'ids' but a, b", "numpy.savez(path, features=..., ids"]),
    ("linear-cka a.npy b.npy --labels several.npz", 1, ["several.npz holds several arrays (.npz)", "numpy.save"]),
    ("linear-cka named.npz b.npy", 2, ["named.npz names its stimuli and b.npy does not"]),
    (
        "linear-cka named.npz swapped.npz",
        2,
        ["row 4 is stimulus img4 in named.npz and img9 in swapped.npz", "sort both"],
    ),
    (
        "linear-cka named.npz others.npz",
        2,
        ["row 59 is stimulus img59 in named.npz and new", "keep those that both have"],
    ),
    ("linear-cka named.npz fewer.npz", 2, ["named.npz has 60 stimuli and fewer.npz 50"]),
    (
        "linear-cka named.npz too-many.npz",
        1,
        ["too-many.npz: ids have shape (61,) and features (60, 7); give one id per"],
    ),
    ("linear-cka named.npz twice.npz", 1, ["twice.npz: id img0 stands for 2 rows"]),
    ("linear-cka a.npy wide.npy --null none", 2, ["linear-cka without a null would mislead", "leave out --null none"]),
    ("cca a.npy wide.npy b.npy", 2, ["cca without a null would mislead"]),
    ("linear-cka a.npy b.npy short.npy", 1, ["50 and 60 rows"]),
    ("linear-cka a.npy b.npy a.npy --permutations 9", 2, ["--permutations changes nothing for all pairs of 3 arrays"]),
    ("linear-cka a.npy b.npy a.npy --null within-class", 2, ["--null within-class takes two arrays at a time"]),
    ("linear-cka a.npy b.npy --memory 1GB", 2, ["--memory changes nothing for linear-cka"]),
    ("linear-cka a.npy b.npy a.npy --memory lots", 1, ["'lots' is no amount of memory"]),
    ("linear-cka maps.npy a.npy", 1, ["maps.npy has shape (60, 3, 4, 5)", "'linear-cka(maps=pool)'", "positions"]),
    ("sparsity maps.npy", 1, ["maps.npy has shape (60, 3, 4, 5)", "say in its name"]),
    (
        "linear-cka(maps=pool) nan-maps.npy maps.npy",
        1,
        ["nan-maps.npy has 1 non-finite entries in 1 of 60 rows (rows 1)"],
    ),
    ("linear-cka(maps=average) maps.npy maps.npy", 2, ["maps='average' is not known", "flatten, pool, positions"]),
    ("linear-cka(maps=pool) a.npy b.npy", 2, ["maps=pool changes nothing", "a.npy and b.npy have no positions"]),
    ("linear-cka(maps=pool) a.npy b.npy a.npy", 2, ["maps=pool changes nothing"]),
    ("sparsity(maps=pool) a.npy", 2, ["maps=pool changes nothing: a.npy has no positions"]),
    (
        "linear-cka(maps=positions) maps.npy turned.npy",
        2,
        ["maps.npy has 3×4 positions and turned.npy 4×3", "use maps=pool or maps=flatten"],
    ),
    ("linear-cka(maps=positions) maps.npy same-maps.npy a.npy", 2, ["maps.npy has 3×4 positions and a.npy none"]),
    ("ridge(maps=positions) maps.npy same-maps.npy", 2, ["both would show the same images"]),
    ("agreement(maps=pool) maps.npy maps.npy", 2, ["agreement measures networks, not arrays"]),
    ("linear-cka a.npy b.npy --null restricted", 2, ["--null restricted and --blocks B.npy", "go together"]),
    ("linear-cka a.npy b.npy --blocks blocks.npy", 2, ["go together"]),
    (
        "linear-cka a.npy b.npy --null restricted --blocks y-short.npy",
        2,
        ["shape (50,) of int64", "there are 60 stimuli"],
    ),
    ("linear-cka a.npy b.npy --null restricted --blocks words.npy", 2, ["of <U3", "one whole number for each"]),
    ("linear-cka a.npy b.npy --null restricted --blocks own-blocks.npy", 2, ["a block of its own", "larger blocks"]),
    (
        "linear-cka a.npy b.npy --null within-class --labels each.npy",
        2,
        ["--labels gives every stimulus a class of its own", "none can move", "give larger classes"],
    ),
    ("linear-cka a.npy b.npy --null restricted --blocks absent.npy", 4, ["there is no file absent.npy"]),
    (
        "linear-cka a.npy b.npy a.npy --null restricted --blocks blocks.npy",
        2,
        ["--null restricted takes two arrays at a"],
    ),
    ("sparsity a.npy --blocks blocks.npy", 2, ["--blocks changes nothing for sparsity"]),
    ("linear-probe a.npy --labels y-short.npy", 1, ["labels have shape (50,), but there are 60 stimuli"]),
    ("nc1(maps=positions) maps.npy --labels y-short.npy", 1, ["labels have shape (50,), but there are 60 stimuli"]),
    ("./absent.py a.npy b.npy", 4, ["there is no file absent.py", "defines probe()"]),
    ("linear-cka absent.npy b.npy", 4, ["there is no file absent.npy", "numpy.save"]),
    ("linear-cka a.npy b.npy --labels absent.npy", 4, ["there is no file absent.npy"]),
    ("linear-cka a.npy b.npy --labels y-short.npy", 1, ["labels have shape (50,), but there are 60 stimuli"]),
    ("linear-cka a.npy b.npy --null within-class", 2, ["--null within-class needs --labels Y.npy"]),
    ("linear-probe a.npy", 2, ["linear-probe needs --labels Y.npy"]),
    ("nc3 a.npy --labels y.npy", 2, ["nc3 needs --readout W.npy", "units in rows and classes in columns"]),
    ("nc4 a.npy --labels y.npy", 2, ["nc4 needs --predictions P.npy"]),
    ("nc3 a.npy --labels y.npy --readout b.npy", 1, ["(60, 7)", "5 units and 3 classes need (5, 3)"]),
    ("nc4 a.npy --labels y.npy --predictions y-short.npy", 1, ["predictions have shape (50,)"]),
    ("nc4 a.npy --labels y.npy --predictions words.npy", 1, ["no prediction is a class of labels"]),
    ("nc1 a.npy --labels y.npy --readout w.npy", 2, ["--readout changes nothing for nc1, a single measure"]),
    ("linear-cka a.npy b.npy --predictions y.npy", 2, ["--predictions changes nothing for linear-cka, a pair measure"]),
    ("concept-probe a.npy", 2, ["concept-probe needs --labels Y.npy, a number for each stimulus"]),
    ("concept-probe a.npy --labels words.npy", 1, ["use linear-probe for classes"]),
    ("linear-cka a.npy b.npy --permutations 0", 2, ["'--permutations': 0 is not in the range"]),
    ("linear-cka a.npy b.npy --null both", 2, ["'both' is not one of 'global', 'within-class', 'restricted', 'none'"]),
    ("participation-ratio a.npy --null none", 2, ["--null changes nothing for participation-ratio", "leave it out"]),
    ("participation-ratio a.npy --null global", 2, ["--null changes nothing"]),
    ("participation-ratio a.npy --permutations 200", 2, ["--permutations changes nothing"]),
    ("linear-probe a.npy --labels y.npy --seed 0", 2, ["--seed changes nothing for linear-probe, a single measure"]),
    ("participation-ratio a.npy --labels y.npy", 2, ["--labels changes nothing for participation-ratio"]),
    ("linear-cka a.npy b.npy --null none --permutations 9", 2, ["--permutations changes nothing", "--null none"]),
    (
        "linear-cka a.npy b.npy --seed 3",
        2,
        ["--seed changes nothing for linear-cka, whose null is known in closed form", "give --permutations"],
    ),
    ("linear-cka a.npy b.npy --null none --seed 3", 2, ["--seed changes nothing"]),
    ("imd a.npy b.npy --permutations 9", 2, ["--permutations changes nothing for imd, which has no null"]),
    ("linear-cka", 2, ["Missing argument 'A.npy [B.npy ...]'"]),
]


@pytest.mark.parametrize(("line", "code", "words"), REFUSED, ids=[line for line, _, _ in REFUSED])
def test_refusals(refuse, line, code, words):
    message = refuse(code, "measure", *line.split(" "))
    assert [word for word in words if word not in message] == []


def test_the_value_is_the_definition(answer):
    found = answer("measure", "linear-cka", "a.npy", "b.npy")
    # Two float64 evaluations of one formula.
    np.testing.assert_allclose(found["value"], cka(A, B), rtol=1e-9, atol=0)
    assert list(found) == [
        *("schema", "measure", "direction", "value", "n", "units", "null", "calibrated", "warnings"),
    ]
    assert (found["measure"], found["n"], found["units"]) == ("linear-cka", 60, [5, 7])
    assert list(found["null"]) == ["kind", "mean", "sd", "p", "permutations"]
    assert found["null"]["kind"] == "global"
    assert found["null"]["p"] > 0.05, "independent noise is not significant"
    assert any("no labels given" in warning for warning in found["warnings"])
    assert found == answer("measure", "linear-cka", "a.npy", "b.npy")


@pytest.mark.parametrize("name", ["integer", "half", "fortran"])
def test_any_kind_of_number_is_measured_as_it_is(answer, name):
    found = answer("measure", "linear-cka", f"{name}.npy", "b.npy", "--null", "none")
    np.testing.assert_allclose(found["value"], cka(ARRAYS[name].astype(np.float64), B), rtol=1e-9, atol=0)
    assert found["null"] is None
    assert found["calibrated"] is None


def test_files_that_name_the_same_stimuli_are_compared(answer):
    assert answer("measure", "linear-cka", "named.npz", "also.npz")["value"] == pytest.approx(cka(A, B), rel=1e-9)


def test_the_global_null_is_not_drawn_unless_it_is_asked_for(answer):
    """500 draws: the mean within 4 standard errors."""
    exact = answer("measure", "linear-cka", "a.npy", "b.npy")["null"]
    drawn = answer("measure", "linear-cka", "a.npy", "b.npy", "--permutations", "500")["null"]
    assert (exact["permutations"], drawn["permutations"]) == (0, 500)
    assert exact["mean"] == pytest.approx(drawn["mean"], abs=4 * exact["sd"] / np.sqrt(500))
    assert answer("measure", "angular-procrustes", "a.npy", "b.npy")["null"]["permutations"] == 200


def test_the_seed_decides_what_is_drawn(answer):
    unsaid, zero, three = (
        answer("measure", "linear-cka", "a.npy", "b.npy", "--permutations", "20", *seed)
        for seed in ((), ("--seed", "0"), ("--seed", "3"))
    )
    assert unsaid == zero != three


def test_all_pairs_of_several_arrays(answer, ask):
    files = ("a.npy", "b.npy", "integer.npy", "constant.npy")
    found = answer("measure", "linear-cka", *files)
    assert (found["files"], found["n"], found["units"]) == (list(files), 60, [5, 7, 5, 4])
    assert found["values"][0][1] == found["values"][1][0] == pytest.approx(cka(A, B), rel=1e-9)
    assert found["values"][0][0] == pytest.approx(1.0, abs=1e-12)
    assert found["values"][3] == [None] * 4
    assert list(found["undefined"]) == ["constant.npy"]
    pair = answer("measure", "linear-cka", "a.npy", "b.npy")
    assert found["p"][0][1] == pytest.approx(pair["null"]["p"], rel=1e-6)
    said = ask("measure", "linear-cka", *files)
    assert said.stdout.splitlines()[0] == "linear-cka (similarity), n = 60 stimuli"
    assert "p, global null (closed form, 1e-06 at least)" in said.stdout
    assert "constant.npy has no value" in said.stderr
    distances = answer("measure", "angular-procrustes", "a.npy", "b.npy", "fortran.npy")
    assert distances["p"] is None
    assert any("none is known in closed form" in warning for warning in distances["warnings"])


@pytest.mark.parametrize("files", [("a.npy", "b.npy"), ("a.npy", "b.npy", "half.npy")])
def test_labels_that_the_null_does_not_use_are_said_to_be_unused(answer, files):
    (said,) = answer("measure", "linear-cka", *files, "--labels", "y.npy")["warnings"]
    assert "the global null does not use the labels" in said
    (said,) = answer("measure", "linear-cka", *files)["warnings"]
    assert "no labels given" in said


OWN = """
import numpy as np
from probes import ProbeInfo
from probes.probe import single_info, SingleProbe


def probe(power: float = 1.0):
    info = single_info(name="size", title="size", formula="mean |x|^p", citation="here", range=(0.0, np.inf),
                       invariances=frozenset({"permutation"}), convention="", traps="", cost="n·d")
    return SingleProbe(info, lambda X: float((np.abs(X) ** power).mean()))
"""


def test_a_probe_of_ones_own(answer, refuse, arrays):
    (arrays / "own.py").write_text(OWN)
    assert answer("measure", "./own.py(power=2)", "a.npy")["value"] == pytest.approx((A**2).mean())
    (arrays / "broken.py").write_text("def probe():\n    return 3\n")
    assert "must return a PairProbe, SingleProbe or FunctionalProbe" in refuse(2, "measure", "./broken.py", "a.npy")
    (arrays / "raises.py").write_text("def probe():\n    return 1 / 0\n")
    assert "raises.py, line 2: ZeroDivisionError" in refuse(1, "measure", "./raises.py", "a.npy")


def test_text_for_people(ask):
    result = ask("measure", "linear-cka", "a.npy", "b.npy", "--permutations", "50")
    first, second, third, fourth = result.stdout.splitlines()
    assert first == f"linear-cka (similarity): {cka(A, B):.6f}"
    assert second == "n = 60 stimuli, 5 and 7 units"
    assert third.startswith("global null: mean 0.")
    assert third.endswith("(50 permutations)")
    assert fourth.startswith("calibrated: 0.")
    assert result.stderr.startswith("warning: no labels given")


def test_too_few_permutations_calibrate_nothing(answer, ask):
    asked = ("measure", "linear-cka", "a.npy", "a.npy", "--permutations", "5")
    why = "5 permutations cannot reach p = 0.05; take at least 19"
    found = answer(*asked)
    assert (found["null"]["p"], found["calibrated"], found["uncalibrated"]) == (1 / 6, None, why)
    assert f"calibrated: undefined: {why}\n" in ask(*asked).stdout
    assert answer(*asked[:-1], "19")["calibrated"] == pytest.approx(1.0)


PAIRS = ["linear-cka", "debiased-cka", "angular-procrustes", "rsa", "mutual-knn"]
SINGLES = ["participation-ratio", "effective-rank", "stable-rank", "spectrum-exponent"]


@pytest.mark.parametrize("measure", PAIRS + SINGLES)
def test_a_constant_array_has_no_value_and_says_why(answer, ask, measure):
    files = ["constant.npy", "b.npy"][: 2 if measure in PAIRS else 1]
    found = answer("measure", measure, *files)
    assert found["value"] is found["null"] is found["calibrated"] is None
    assert "60 stimuli" in found["undefined"]
    assert f": undefined: {found['undefined']}\n" in ask("measure", measure, *files).stdout


def test_too_little_data_is_undefined(answer):
    assert "n − 3" in answer("measure", "debiased-cka", "two.npy", "two.npy")["undefined"]
    assert "k = 1000 neighbours" in answer("measure", "mutual-knn(k=1000)", "a.npy", "b.npy")["undefined"]


def test_one_is_spoken_of_as_one(answer, ask):
    said = ask("measure", "linear-cka", "one.npy", "one.npy")
    assert "undefined: there is one stimulus only" in said.stdout
    assert "n = 1 stimulus, 5 and 5 units" in said.stdout
    assert "score high" not in said.stderr
    assert "60 stimuli, 1 unit\n" in ask("measure", "sparsity", "single-unit.npy").stdout
    reason = answer("measure", "linear-probe", "a.npy", "--labels", "rare.npy")["undefined"]
    assert reason == "the smallest class has 1 stimulus, fewer than the 5 folds"


def test_labels_may_be_words(answer):
    by_number = answer("measure", "linear-probe", "a.npy", "--labels", "y.npy")
    by_word = answer("measure", "linear-probe", "a.npy", "--labels", "words.npy")
    assert by_number == by_word
    assert by_number["details"]["chance"] == pytest.approx(1 / 3)
    assert 0 <= by_number["value"] <= 1


@pytest.mark.parametrize("asked", [("nc1", "a.npy"), ("debiased-cka", "a.npy", "b.npy")])
def test_labels_that_are_no_whole_numbers_are_taken_for_classes_and_said_to_be(answer, asked):
    by = {name: answer("measure", *asked, "--labels", f"{name}.npy") for name in ("y", "floats", "halves")}
    assert by["floats"] == by["y"]
    assert by["halves"]["value"] == by["y"]["value"]
    (said,) = set(by["halves"]["warnings"]) - set(by["y"]["warnings"])
    assert "labels are no whole numbers, and each of 3 different ones is taken for a class" in said
    assert answer("measure", "concept-probe", "a.npy", "--labels", "halves.npy")["warnings"] == []


def test_a_readout_and_predictions_reach_the_measures_of_collapse(answer):
    from probes import PROBES

    labels = ("--labels", "y.npy")
    self_dual = answer("measure", "nc3", "a.npy", *labels, "--readout", "w.npy")
    assert self_dual["value"] == PROBES["nc3"]().value(A, Y, ARRAYS["w"])
    centre = answer("measure", "nc4", "a.npy", *labels, "--predictions", "answers.npy")
    assert centre["details"]["network_accuracy"] == 50 / 60  # ten of the first fifteen are not of class 0
    assert centre["value"] == PROBES["nc4"]().value(A, Y, ARRAYS["answers"])["value"]


def test_shared_class_means_alone_pass_for_similarity_until_calibrated(answer, arrays):
    """Two representations with nothing in common but where their classes lie: the known way of being misled."""
    draw = np.random.default_rng(1)
    labels = np.arange(300) % 10
    means = 5 * draw.normal(size=(10, 20))
    for name in ("left", "right"):
        np.save(arrays / f"{name}.npy", means[labels] + draw.normal(size=(300, 20)))
    np.save(arrays / "classes.npy", labels)
    asked = ("measure", "linear-cka", "left.npy", "right.npy", "--labels", "classes.npy", "--null")
    by_chance, by_class = answer(*asked, "global"), answer(*asked, "within-class")
    assert by_chance["value"] == by_class["value"] > 0.95
    assert by_chance["null"]["p"] < 0.01
    assert by_chance["calibrated"] > 0.9
    assert by_class["null"]["kind"] == "within-class"
    assert by_class["calibrated"] < 0.05


def test_maps_are_flattened_pooled_or_laid_out_and_the_name_says_which(answer, ask):
    x, y = ARRAYS["maps"], ARRAYS["same-maps"]
    rows = {"flatten": lambda z: z.reshape(N, -1), "pool": lambda z: z.mean(axis=(1, 2))}
    rows["positions"] = lambda z: z.reshape(-1, z.shape[-1])
    for how, of in rows.items():
        found = answer("measure", f"linear-cka(maps={how})", "maps.npy", "same-maps.npy", "--permutations", "20")
        assert found["value"] == pytest.approx(cka(of(x), of(y)), rel=1e-9)
        assert (found["measure"], found["maps"]) == (f"linear-cka(maps={how})", how)
        assert (found["n"], found["rows"], found["units"]) == (N, len(of(x)), [of(x).shape[1], of(y).shape[1]])
    said = ask("measure", "linear-cka(maps=positions)", "maps.npy", "same-maps.npy", "--permutations", "20")
    assert "n = 60 stimuli, 720 rows, 5 and 7 units" in said.stdout
    assert "12 positions of each of 60 stimuli are rows here" in said.stderr
    single = answer("measure", "participation-ratio(maps=pool)", "tokens.npy")
    pooled = ARRAYS["tokens"].mean(axis=1)
    spectrum = np.linalg.svd(pooled - pooled.mean(0), compute_uv=False) ** 2
    assert single["value"] == pytest.approx(spectrum.sum() ** 2 / (spectrum**2).sum(), rel=1e-9)


def test_whole_images_are_permuted_and_the_closed_form_is_not_taken(answer):
    asked = ("measure", "debiased-cka(maps=positions)", "maps.npy", "same-maps.npy")
    assert answer(*asked)["null"]["permutations"] == 200
    within = answer(*asked, "--labels", "y.npy", "--null", "within-class", "--permutations", "20")
    assert within["null"]["kind"] == "within-class"
    many = answer(*asked, "maps.npy")
    assert (many["n"], many["rows"], many["p"]) == (60, 720, None)
    assert many["values"][0][1] == pytest.approx(answer(*asked)["value"], rel=1e-9)


def test_permutations_restricted_to_blocks(answer, ask):
    """What is alike for being of one block is in the null then, as classes are in the within-class null."""
    asked = ("measure", "linear-cka", "a.npy", "b.npy", "--permutations", "50")
    restricted = answer(*asked, "--null", "restricted", "--blocks", "blocks.npy")
    classes = answer(*asked, "--null", "within-class", "--labels", "blocks.npy")
    assert restricted["null"] == {**classes["null"], "kind": "restricted"}
    assert restricted["null"] != answer(*asked)["null"]
    assert "restricted null: mean" in ask(*asked, "--null", "restricted", "--blocks", "blocks.npy").stdout


def test_blocks_that_allow_few_orders_are_said_to(ask, arrays):
    blocks = np.arange(N)
    blocks[:3] = 0
    np.save(arrays / "three.npy", blocks)
    said = ask("measure", "linear-cka", "a.npy", "b.npy", "--null", "restricted", "--blocks", "three.npy").stderr
    assert "the blocks allow only 6 orders" in said


@pytest.mark.parametrize("measure", ["debiased-cka", "rsa", "cca", "mutual-knn", "angular-procrustes", "soft-matching"])
def test_duplicated_rows_are_counted(answer, measure):
    found = answer("measure", measure, "twins.npy", "b.npy", "--permutations", "9")
    assert found["value"] is not None
    assert any("30 of 60 rows repeat an earlier row exactly" in warning for warning in found["warnings"])


def test_one_sample_per_class_has_one_line(answer):
    found = answer("measure", "debiased-cka", "a.npy", "b.npy", "--labels", "each.npy")
    assert any("60 of 60 classes have one stimulus" in warning for warning in found["warnings"])
    for measure in ("linear-probe", "nc1", "knn-probe", "few-shot", "selectivity", "alignment", "capacity"):
        alone = answer("measure", measure, "a.npy", "--labels", "each.npy")
        assert alone["value"] is not None or len(alone["undefined"].splitlines()) == 1, measure


def test_fewer_stimuli_than_units_are_warned_of_or_undefined(answer):
    """Biased measures warn; with as many directions as stimuli canonical correlations do not exist."""
    wide = np.random.default_rng(4).normal(size=(N, 70))
    np.save("wider.npy", wide)
    for measure in ("linear-cka", "rbf-cka", "angular-procrustes", "distance-correlation"):
        found = answer("measure", measure, "a.npy", "wider.npy", "--permutations", "9")
        assert any("n = 60 stimuli and 5 and 70 units" in warning for warning in found["warnings"]), measure
    found = answer("measure", "cca", "a.npy", "wider.npy", "--permutations", "9")
    assert found["value"] is None or any("70 units" in warning for warning in found["warnings"])


def test_one_representation_is_warned_of_like_a_pair(answer):
    """What copies do depends on the measure: to a share of silent units nothing. 60 stimuli are too few for 40 units,
    not for 5."""
    labels = ("--labels", "y.npy")
    for measure, given, what in (
        ("twonn", (), "and are left out"),
        ("nc1", labels, "but each counts as one more (keep one of each)"),
        (
            "linear-probe",
            labels,
            "so what is held out has been seen, and the score comes out too good (keep one of each)",
        ),
    ):
        (copies,) = answer("measure", measure, "twins.npy", *given)["warnings"]
        assert copies == f"30 of 60 rows repeat an earlier row exactly: copies are no independent stimuli, {what}"
    assert answer("measure", "sparsity", "twins.npy")["warnings"] == []
    (few,) = answer("measure", "participation-ratio", "wide.npy")["warnings"]
    assert "with n = 60 stimuli and 40 units, the value is biased low" in few
    assert "use more than 80 stimuli" in few
    assert answer("measure", "participation-ratio", "a.npy")["warnings"] == []
    assert answer("measure", "debiased-participation-ratio", "wide.npy")["warnings"] == []


def test_a_null_that_takes_long_says_so(ask, monkeypatch):
    import lab.measuring

    options = ("measure", "mutual-knn(k=3)", "a.npy", "b.npy", "--null", "global", "--permutations", "20")
    assert "drawing" not in ask(*options).stderr
    monkeypatch.setattr(lab.measuring, "LONG", 0.0)
    assert "drawing 20 permutations of mutual-knn: some" in ask(*options).stderr


def test_the_time_of_a_null_is_not_that_of_the_first_call(ask, arrays):
    """A probe that sleeps once, as one that loads a library does: 20 draws of 0.3 s would be 6 s, and take none."""
    (arrays / "slow.py").write_text(SLOW_ONCE)
    assert "drawing" not in ask("measure", "./slow.py", "a.npy", "b.npy", "--permutations", "20").stderr


SLOW_ONCE = """
import time
from probes import PROBES

made = PROBES["linear-cka"]()
called = []


def value(px, py):
    if not called:
        time.sleep(0.3)
    called.append(1)
    return made.value(px, py)


def probe():
    return made._replace(value=value)
"""
