"""Published set-ups, as near as the lab comes to them: `make test-slow`.

Networks, optimisers, batches and budgets are the papers' where the lab has them; what differs stands beside each row.
Two seeds, since the networks are wide: enough for a mean within a tenth of a percent, not for an interval.
"""

import pytest
from click.testing import CliRunner

from lab.cli import main
from tests.accuracy import jitter
from tests.accuracy.test_mnist_accuracy import train

pytestmark = pytest.mark.slow

SEEDS = ("--seeds", "2")

WITHIN = {
    # Dellaferrera & Kreiman 2022, table 1: 98.01 ± .09 over ten seeds. The rate falls along a cosine, not by tenths at
    # epochs 60 and 90; biases learn; 5,000 images are held out.
    "pepita(scale=0.05,dropout=0.1) --arch mlp(1024) --optimizer sgd(0.1,momentum=0.9) --batch 64 --epochs 100": (
        98.01,
        0.3,
    ),
    # Laborieux & Zenke 2022, logs of holomorphic_eqprop, 2×256: 97.9 to 98.1 on the validation split after 50 epochs.
    # Adam instead of plain descent, batches of 128 instead of 20.
    "ep --arch mlp(256,256,act=hard_sigmoid) --epochs 20": (97.9, 0.3),
    # arXiv:2504.11558, table 1: 98.1 ± .21 for a multilayer perceptron with Nøkland's direct feedback. Nøkland (2016)
    # has tanh units, binary cross-entropy and up to 300 epochs of RMSprop.
    "dfa(loss=bce) --arch mlp(800,800,act=tanh) --optimizer adam(0.001) --epochs 20": (98.1, 0.3),
}
"""Arguments of `lab train --rule`: published test accuracy (%), tolerance."""


@pytest.mark.parametrize("args", WITHIN)
def test_published_accuracy(args):
    published, tolerance = WITHIN[args]
    assert abs(100 * train("--rule", *args.split(), *SEEDS)["mean"] - published) <= tolerance


def test_order_of_four_rules_on_one_tanh_layer():
    """Frenkel et al. 2021: BP, FA and DFA close together, DRTP below them, a frozen hidden layer lowest."""
    rates = {"bp": 1.5e-4, "fa": 5e-4, "dfa": 1.5e-4, "drtp": 5e-4, "frozen": 1.5e-2}  # the scripts of their repository
    found = {
        rule: train(
            *("--rule", f"{rule}(loss=bce)" if rule != "drtp" else "drtp()", "--arch", "mlp(500,act=tanh)"),
            *("--optimizer", f"adam({rate},schedule=constant)", "--batch", "100", "--epochs", "20", "--seeds", "5"),
        )["per_seed"]
        for rule, rate in rates.items()
    }
    for bp, fa, dfa, drtp, frozen in zip(*found.values(), strict=True):
        assert min(bp, fa, dfa) > drtp > frozen


def test_local_errors_on_shifted_images_miss_the_published_number_by_half_a_point(tmp_path, monkeypatch):
    """Nøkland & Eidnes 2019, predsim 3×1024: 0.62 % error, which a tolerance of 0.2 would not reach from here.

    Theirs has batch norm, dropout and 100 epochs; here one seed makes 50 epochs' worth of steps on 5 shifts per image.
    The miss is in docs/published.md: 1.16 %. Whoever mends it, or breaks more, will hear of it here.
    """
    monkeypatch.setenv("LAB_DATA", str(tmp_path))
    jitter.main(str(tmp_path / "shifts.npz"))
    added = CliRunner().invoke(main, ["data", "add", "mnist-jitter", str(tmp_path / "shifts.npz")])
    assert added.exit_code == 0, added.output
    found = train(
        *("--rule", "local(beta=0.99,width=1024,rate=0.0005)", "--arch", "mlp(1024,1024,1024,act=leaky_relu)"),
        *("--optimizer", "adam(0.0005)", "--data", "mnist-jitter", "--epochs", "10", "--seeds", "1"),
    )
    assert 0.62 + 0.2 < 100 * (1 - found["mean"]) <= 1.16 + 0.3
