"""Call strings: read with Python's grammar, never evaluated, spelled in one way."""

import os
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms import RULES
from lab.callstring import build, parse, short
from lab.errors import UsageError
from lab.networks import ARCHITECTURES
from lab.optimizers import OPTIMIZERS
from lab.request import make_rule, read_seeds, seeds_text

SETTINGS = settings(derandomize=True, deadline=None, max_examples=200)

words = st.text(string.ascii_letters + " _'\"\\()»é", max_size=12)
scalars = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), words)
values = st.one_of(scalars, st.lists(scalars, max_size=3).map(tuple))


def thing(*parts, size=1.0, name="plain", flag=False):
    return parts, size, name, flag


@SETTINGS
@given(st.lists(values, max_size=3), values, values, st.booleans())
def test_the_canonical_form_reads_back_as_itself(parts, size, name, flag):
    inside = [*map(repr, parts), f"size={size!r}", f"name={name!r}", f"flag={flag}"]
    made, spelled = build(f"thing({', '.join(inside)})", {"thing": thing}, "--thing")
    number = float(size) if isinstance(size, int) and not isinstance(size, bool) else size
    assert made == (tuple(parts), number, name, flag)
    assert build(spelled, {"thing": thing}, "--thing") == (made, spelled)
    assert build(short(spelled, {"thing": thing}), {"thing": thing}, "--thing") == (made, spelled)


def test_the_short_form_has_no_default_and_no_quotes():
    for text in ("adam(0.001)", "sgd(0.1,momentum=0.9)", "adam(0.001,schedule=constant)"):
        assert short(build(text, OPTIMIZERS, "--optimizer")[1], OPTIMIZERS) == text
    for text in ("mlp(256,128)", "mlp(8,act=tanh)", "conv(6,16,dense=(84,))"):
        assert short(build(text, ARCHITECTURES, "--arch")[1], ARCHITECTURES) == text
    assert short(build("fa", RULES, "--rule")[1], RULES) == "fa"
    assert short("my_rule(scale=0.1)", RULES) == "my_rule(scale=0.1)"


@SETTINGS
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    told = None
    try:
        call = parse(text, "--rule")
    except UsageError as error:
        told = error.message
    if told is None:
        assert text.strip().startswith(call.name)
    else:
        assert len(told.splitlines()) <= len(text.splitlines()) + 1


@pytest.mark.parametrize(
    ("table", "text", "canonical"),
    [
        (RULES, "fa", "fa(scale=1.0, loss='ce', feedback='kernel')"),
        (RULES, "es(64)", "es(pairs=64, sigma=0.02, shaping='rank', centre=True, loss='ce')"),
        (RULES, "es(shaping=none)", "es(pairs=32, sigma=0.02, shaping='none', centre=True, loss='ce')"),
        (RULES, "bp()", "bp(loss='ce')"),
        (OPTIMIZERS, "sgd(1)", "sgd(learning_rate=1.0, schedule='cosine', momentum=0.0, nesterov=False)"),
        (OPTIMIZERS, "adam(1e-3)", "adam(learning_rate=0.001, schedule='cosine', b1=0.9, b2=0.999, eps=1e-08)"),
        (ARCHITECTURES, "mlp(256,128)", "mlp(256, 128, act='relu')"),
        (ARCHITECTURES, "mlp( 4 , act = tanh )", "mlp(4, act='tanh')"),
        (ARCHITECTURES, "conv(6, dense=[8])", "conv(6, dense=(8,), kernel=5, pool=2, act='relu')"),
    ],
)
def test_every_default_is_spelled_out(table, text, canonical):
    assert build(text, table, "--it")[1] == canonical


def test_a_word_may_have_hyphens():
    assert parse("rsa(cosine, comparator=whitened-cosine)", "--measure").kwargs == {"comparator": "whitened-cosine"}
    assert parse("f(a-b-c)", "--measure").args == ("a-b-c",)


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("fa(scale=1", "fa»(scale=1"),
        ("fa(1 2)", "fa(»1 2)"),
        ("fa(scale=1+x)", "fa(scale=»1+x)"),
        ("fa(scale=x-1)", "fa(scale=»x-1)"),
        ("fa(**{})", "fa(**»{})"),
        ("fa(__import__('os').system('touch x'))", "fa(»__import__('os').system('touch x'))"),
        ("fa(scale=[1, open('x')])", "fa(scale=[1, »open('x')])"),
        ("fa(lambda: 1)", "fa(»lambda: 1)"),
        ("fa(f'{1}')", "fa(»f'{1}')"),
        ("fa(1)(2)", "fa»(1)(2)"),
        ("fa(1).real", "fa»(1).real"),
    ],
)
def test_errors_mark_the_place(text, marked):
    with pytest.raises(UsageError) as refused:
        parse(text, "--rule")
    assert f"'{marked}'" in refused.value.message
    assert "\n" not in refused.value.message


def test_nothing_is_ever_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for text in ("fa(__import__('os').mkdir('x'))", "fa(scale=open('x', 'w'))", "fa(*[open('x', 'w')])", "(exit)()"):
        with pytest.raises(UsageError):
            make_rule(text)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("dfaa", "Did you mean 'dfa'"),
        ("fa(scal=2)", "Did you mean 'scale'"),
        ("fa(1, ce, kernel, 2)", "too many positional"),
        ("fa(scale=wide)", "must be a finite number"),
        ("fa(scale=-1)", "above 0"),
        ("bp(1)", "one of ce, mse, bce"),
        ("bp(scale=1)", "bp takes loss='ce'"),
        ("", "name is missing"),
        ("(1)", "name is missing"),
        ("fa(" + "1" * 2000 + ")", "too long"),
        ("fa(" + "(" * 400 + ")", "--rule"),
        ("fa(scale=" + "9" * 400 + ")", "beyond every floating-point number"),
        ("fa(1, scale=2)", "multiple values"),
        ("fa(scale=)", "»"),  # where exactly depends on the version of Python
        ("fa(scale=1, scale=2)", "given twice"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_work(text, says):
    with pytest.raises(UsageError) as refused:
        make_rule(text)
    assert says in refused.value.message


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1", (0,)), ("3", (0, 1, 2)), ("3,7,8", (3, 7, 8)), ("10-12, 4", (10, 11, 12, 4)), ("5,", (5,)), ("7-7", (7,))],
)
def test_seeds(text, seeds):
    assert read_seeds(text) == seeds
    assert read_seeds(seeds_text(seeds)) == seeds


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "3,3", "1-3,2", "5-3", "1.5", "4294967296,", "0-99999999999"])
def test_seeds_that_are_none(text):
    with pytest.raises(UsageError, match="--seeds"):
        read_seeds(text)
