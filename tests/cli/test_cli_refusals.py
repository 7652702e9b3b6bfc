"""What `lab train` refuses: a wrong word ends in exit code 2 and one line that says what would be right."""

import json
from pathlib import Path

import pytest

REFUSED = [
    # unknown names
    (["--rule", "frozn"], 2, ["unknown name 'frozn'", "Did you mean 'frozen'?", "`lab rules` lists them"]),
    (["--arch", "mpl(8)"], 2, ["unknown name 'mpl'", "Did you mean 'mlp'?", "Known: mlp, conv"]),
    (["--optimizer", "adm(0.1)"], 2, ["unknown name 'adm'", "Did you mean 'adam'?", "Known: adam, adamw, sgd"]),
    (["--data", "tinny"], 2, ["no data set 'tinny'", "Did you mean 'tiny'?", "`lab data add NAME FILE.npz`"]),
    (["--data", "../tiny"], 2, ["no data set '../tiny'", "Known: mnist"]),
    (["--data", "kmnist"], 4, ["kmnist is not on this machine", "run `lab data fetch kmnist`"]),
    (["--rule", "./absent.py"], 4, ["there is no file absent.py", "that defines rule()"]),
    # hyper-parameters
    (["--rule", "fa(scal=2)"], 2, ["fa has no 'scal'", "Did you mean 'scale'?", "fa takes scale=1.0"]),
    (["--rule", "fa(scale=-1)"], 2, ["scale must be a finite number above 0, not -1.0"]),
    (["--rule", "fa(scale=1e400)"], 2, ["scale must be a finite number above 0, not inf"]),
    (["--rule", "bp(ce, 3)"], 2, ["too many positional arguments", "bp takes loss='ce'"]),
    (["--optimizer", "adam"], 2, ["missing a required argument: 'learning_rate'"]),
    (["--optimizer", "adam(nan)"], 2, ["a finite learning rate above 0, not 'nan'"]),
    (["--optimizer", "adam(-0.1)"], 2, ["a finite learning rate above 0, not -0.1"]),
    (["--optimizer", "sgd(1e999)"], 2, ["a finite learning rate above 0, not inf"]),
    (["--optimizer", "sgd(0.1, momentum=x)"], 2, ["a finite momentum at least 0 and below 1, not 'x'"]),
    # call strings
    (["--rule", "fa(1"], 2, ["'fa»(1'", "was never closed (at the »)"]),
    (["--rule", ""], 2, ["a name is missing in front, as in fa(scale=0.5)"]),
    (["--rule", "fa(1)(2)"], 2, ["expected one pair of brackets"]),
    (["--rule", "fa(open('x'))"], 2, ["only numbers, words, True/False and tuples go here"]),
    (["--rule", "fa(**1)"], 2, ["** is not allowed here"]),
    (["--arch", "mlp(" + "1," * 600 + ")"], 2, ["is too long (at most 1000)"]),
    # rule and network, network and image, network and machine
    (["--rule", "ff", "--arch", "conv(2,kernel=3)"], 2, ["ff is not defined for block 'conv1' (conv)", "mlp(256,128)"]),
    (["--rule", "fa", "--arch", "mlp()"], 2, ["no hidden layer", "nothing for fa to assign"]),
    (["--arch", "conv(2,2)"], 2, ["nothing is left of a 8×8 image after convolution 2", "use fewer convolutions"]),
    (["--arch", "conv()"], 2, ["give the channels of at least one convolution, as in conv(6,16)"]),
    (["--arch", "mlp(0)"], 2, ["width 1 must be a whole number above 0, not 0"]),
    (["--arch", "mlp(8,-1)"], 2, ["width 2 must be a whole number above 0, not -1"]),
    (["--arch", "mlp(1000000000000)"], 1, ["not enough memory", "e+05 GB", "use a smaller network or --cohort"]),
    (["--arch", "mlp(8,act=rlu)"], 2, ["unknown nonlinearity act='rlu'", "relu, tanh"]),
    # numbers
    (["--epochs", "-1"], 2, ["--epochs must be at least 0, not -1"]),
    (["--epochs", "9" * 20], 2, ["more steps than can be counted", "make it smaller"]),
    (["--batch", "0"], 2, ["--batch must be at least 1, not 0"]),
    (["--batch", "501"], 2, ["--batch 501 is more than the 500 training examples", "make it smaller"]),
    (["--train-size", "501"], 2, ["a training set of 501 is impossible", "the size is 1 to 500"]),
    (["--train-size", "0"], 2, ["a training set of 0 is impossible"]),
    (["--order-seed", "-1"], 2, ["--order-seed must be a whole number from 0 to 2^32 - 1, not -1"]),
    (["--order-seed", "4294967296"], 2, ["--order-seed must be a whole number from 0 to 2^32 - 1"]),
    (["--seeds", "0"], 2, ["names no seed", "at least one is needed"]),
    (["--seeds", ""], 2, ["names no seed"]),
    (["--seeds", "a"], 2, ["give a number of seeds (5) or the seeds themselves (0,3,10-14)"]),
    (["--seeds", "1.5"], 2, ["give a number of seeds (5)"]),
    (["--seeds", "3-1,1"], 2, ["give a number of seeds (5)"]),
    (["--seeds", "0-"], 2, ["give a number of seeds (5)"]),
    (["--arch", ""], 2, ["a name is missing in front"]),
    (["--seeds", "1,1"], 2, ["names a seed twice"]),
    (["--seeds", "1-3,2"], 2, ["names a seed twice"]),
    (["--seeds", "10001"], 2, ["at most 10,000 of them"]),
    (["--seeds", "0-99999999999"], 2, ["from 0 to 2^32 - 1, at most 10,000 of them"]),
    (["--seeds", "4294967296,"], 2, ["from 0 to 2^32 - 1"]),
    # click's own
    (["--epochs", "many"], 2, ["'--epochs': 'many' is not a valid integer"]),
    (["--cohort", "0"], 2, ["'--cohort': 0 is not in the range"]),
    (["--precision", "double"], 2, ["'double' is not one of 'float32'"]),
    (["--device", "abacus"], 2, ["'abacus' is not one of 'cpu', 'gpu', 'tpu'"]),
    (["--sedes", "3"], 2, ["No such option", "--seeds"]),
]


@pytest.mark.parametrize(("options", "code", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_train_refuses(refuse, tiny, tmp_path, options, code, words):
    store = tmp_path / "store"
    message = refuse(code, "train", *tiny, *options, "--store", store)
    missing = [word for word in words if word not in message]
    assert not missing, message
    assert not store.exists(), "a refused request leaves nothing behind"


WRONG_TYPES = [
    (["--rule", "es(pairs=1.5)"], 2, ["pairs must be a whole number of at least 1, not 1.5"]),
    (["--rule", "es(pairs=True)"], 2, ["es(pairs=True"]),
    (["--optimizer", "adam(0.1, b1=x)"], 2, ["a finite b1 at least 0 and below 1, not 'x'"]),
    (["--arch", "mlp(1e9)"], 2, ["width 1 must be a whole number above 0, not 1000000000.0"]),
]


def test_train_refuses_values_of_another_type(process, complained, tiny):
    """In a process without the tests' own type checks, which would speak first."""
    script = "import json, sys\nfrom click.testing import CliRunner\nfrom lab.cli import main\n"
    script += "asked = json.loads(sys.argv[1])\nfound = [CliRunner().invoke(main, args) for args in asked]\n"
    script += "print(json.dumps([(r.exit_code, r.stderr) for r in found]))\nsys.exit()"
    asked = [["train", *tiny, *options, "--dry-run"] for options, _, _ in WRONG_TYPES]
    stdout, stderr = process(json.dumps(asked), first=script).communicate()
    found = json.loads(stdout or stderr)
    for (exit_code, said), (options, code, words) in zip(found, WRONG_TYPES, strict=True):
        assert exit_code == code, (options, said)
        assert [word for word in words if word not in complained(said)] == [], options


def test_a_setting_given_twice(refuse, tiny):
    assert "twice" in refuse(2, "train", *tiny, "--rule", "fa(scale=1, scale=2)", "--dry-run")


@pytest.mark.parametrize(
    "optimizer", ["adam(0.1, b1=2)", "adam(0.1, eps=-1)", "sgd(0.1, momentum=-3)", "adamw(0.1, weight_decay=-1)"]
)
def test_an_optimiser_beyond_its_range(refuse, tiny, optimizer):
    assert optimizer.split()[1][:2] in refuse(2, "train", *tiny, "--optimizer", optimizer, "--dry-run")


OTHERS = [
    (["trian"], 2, ["No such command 'trian'", "Did you mean 'train'?"]),
    (["runs", "shwo", "x"], 2, ["No such command 'shwo'"]),
    (["rules", "frozn"], 2, ["unknown name 'frozn'", "Did you mean 'frozen'?"]),
    (["probes", "cka"], 2, ["unknown name 'cka'", "Did you mean 'linear-cka'?"]),
    (["probes", "mutual-knn(k=0)"], 2, ["NAME 'mutual-knn(k=0)'", "k=0 must be a whole number of at least 1"]),
    (["figure", "similarty"], 2, ["no figure 'similarty'", "Did you mean 'similarity'?", "`lab figure list`"]),
    (["data", "fetch", "minst"], 2, ["Did you mean 'mnist'?"]),
    (["data", "add", "x", "absent.npz"], 4, ["absent.npz: no such file"]),
    (["tune", "--rule", "frozn"], 2, ["Did you mean 'frozen'?"]),
]


@pytest.mark.parametrize(("args", "code", "words"), OTHERS, ids=lambda value: str(value)[:40])
def test_other_commands_refuse(refuse, args, code, words):
    message = refuse(code, *args)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[recipe]]\nx =", "Invalid value"),
        ("[[recipe]]\nx = 1", "unexpected keyword argument 'x'"),
        ('[[recipe]]\nrule = "bp()"', "required positional arguments"),
        ("recipe = 3", "not iterable"),
    ],
)
def test_a_damaged_recipe_file(refuse, tiny, tmp_path, text, why):
    (tmp_path / "recipes.toml").write_text(text)
    message = refuse(1, "train", *tiny, "--dry-run", "--store", tmp_path)
    assert f"{tmp_path / 'recipes.toml'} is not a recipe file (" in message
    assert why in message
    assert "mend it, or remove it and run `lab tune` again" in message


def test_a_recipe_with_a_number_for_an_optimiser(refuse, tiny, tmp_path):
    entries = dict.fromkeys(("name", "rule", "arch", "data", "command"), '"x"') | {"optimizer": "3", "edge": "false"}
    entries |= dict.fromkeys(("trials", "seeds"), "[]")
    entries |= dict.fromkeys(("batch", "epochs", "trial_epochs", "train_size"), "1")
    (tmp_path / "recipes.toml").write_text("[[recipe]]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items()))
    message = refuse(1, "train", *tiny, "--dry-run", "--store", tmp_path)
    assert "is not a recipe file (optimizer must be text, not 3); mend it" in message


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a place where nobody can make a folder")
def test_a_store_that_cannot_be_made_is_no_missing_run(refuse, tiny):
    message = refuse(1, "train", *tiny, "--rule", "bp", "--store", "/proc/x")
    assert "no folder can be made there. Choose another place with --store." in message
