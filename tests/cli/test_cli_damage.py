"""A damaged run: every command says in one line what is wrong with it, and the others are not the worse for it."""

import json
import re

import pytest

QUICK = ("--stimuli", "60", "--permutations", "20")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-30] ^= 0x10
    path.write_bytes(data)


def newer(key):
    def change(path):
        path.write_text(re.sub(rf'"{key}": 1\b', f'"{key}": 99', path.read_text()))

    return change


def later(path):
    path.write_text(path.read_text().replace('"step": 10', '"step": 11'))


def other_request(path):
    spec = json.loads(path.read_text())
    path.write_text(json.dumps({**spec, "epochs": 7}))


LAST = "checkpoints/cohort0-step00000010.safetensors"
SEEN = {  # what the names and sizes of files and the two small JSON files show
    "manifest cut": ("manifest.json", truncate, "manifest.json is damaged: it is not JSON"),
    "manifest altered": ("manifest.json", later, "manifest.json is damaged: it was changed after it was written"),
    "manifest newer": ("manifest.json", newer("schema"), "has schema 99; this version reads up to 1. Upgrade"),
    "spec cut": ("spec.json", truncate, "spec.json is damaged: it is not JSON"),
    "spec newer": ("spec.json", newer("format"), "has format 99; this version reads up to 1. Upgrade"),
    "spec of another": ("spec.json", other_request, "holds the spec of bp-tiny-mlp-8-"),
    "checkpoint cut": (LAST, truncate, f"{LAST} has "),
    "checkpoint gone": (LAST, lambda path: path.unlink(), f"{LAST} is missing"),
    "metrics cut": ("metrics.parquet", truncate, "metrics.parquet has "),
    "metrics gone": ("metrics.parquet", lambda path: path.unlink(), "metrics.parquet is missing"),
}
HIDDEN = {"checkpoint altered": LAST, "metrics altered": "metrics.parquet"}  # only reading every byte shows these


@pytest.mark.parametrize("damage", SEEN)
def test_damage_that_shows(ask, answer, refuse, runs, copied, damage):
    name, harm, words = SEEN[damage]
    bp, fa, store = runs["bp"], runs["fa"], ("--store", copied)
    harm(copied / "runs" / bp / name)
    for command in (["compare", bp, fa, *QUICK], ["figure", "learning", bp, "-o", copied / "x.pdf"]):
        message = refuse(1, *command, *store)
        assert words in message
        assert len(re.findall(r"[.;] ", message)) < 4, "a line, not a page"
    listed = ask("runs", *store)
    assert f"{bp}: " in listed.stderr
    assert words in listed.stderr
    statuses = {row["run"]: row["status"] for row in answer("runs", *store)["runs"]}
    assert statuses.pop(bp) == "damaged"
    assert statuses.pop(runs["lost"]) == "diverged"
    assert set(statuses.values()) == {"complete"}
    verified = ask("runs", "verify", *store, code=1)
    wrong = [line for line in verified.stdout.splitlines() if not line.endswith(": sound")]
    assert len(wrong) == 1
    assert words in wrong[0]
    if name == "manifest.json" or damage in ("spec cut", "spec newer"):
        assert words in refuse(1, "runs", "show", bp, *store)
    else:
        shown = ask("runs", "show", bp, *store).stdout.splitlines()[0]
        assert shown.startswith(f"{bp}: damaged (")
        assert words in shown


@pytest.mark.parametrize("damage", ["checkpoint cut", "metrics gone"])
def test_a_run_that_lost_a_file_is_trained_anew(ask, runs, copied, tiny, home, damage):
    name, harm, _ = SEEN[damage]
    harm(copied / "runs" / runs["bp"] / name)
    ask("train", *tiny, "--rule", "bp", "--seeds", "3", "--store", copied)
    assert ask("runs", "verify", runs["bp"], "--store", copied).stdout == f"{runs['bp']}: sound\n"
    for file in (name, LAST):
        assert (copied / "runs" / runs["bp"] / file).read_bytes() == (
            home / "store" / "runs" / runs["bp"] / file
        ).read_bytes()


@pytest.mark.parametrize("damage", ["manifest cut", "manifest newer", "spec cut", "spec newer", "spec of another"])
def test_a_run_whose_record_is_damaged_is_not_overwritten(ask, refuse, runs, copied, tiny, damage):
    name, harm, words = SEEN[damage]
    path = copied / "runs" / runs["bp"] / name
    harm(path)
    before = path.read_bytes()
    message = refuse(1, "train", *tiny, "--rule", "bp", "--seeds", "3", "--store", copied)
    assert words in message or "holds another spec than its folder's name says" in message
    assert path.read_bytes() == before
    if "cut" in damage:  # what is advised works
        assert f"`lab runs rm {runs['bp']}` and train it again" in message
        ask("runs", "rm", runs["bp"], "-y", "--store", copied)
        ask("train", *tiny, "--rule", "bp", "--seeds", "3", "--store", copied)
        assert ask("runs", "verify", runs["bp"], "--store", copied).stdout == f"{runs['bp']}: sound\n"


@pytest.mark.parametrize("damage", HIDDEN)
def test_damage_that_only_verify_sees(ask, refuse, runs, copied, damage):
    flip(copied / "runs" / runs["bp"] / HIDDEN[damage])
    said = ask("runs", "verify", runs["bp"], "--store", copied, code=1).stdout
    assert f"{HIDDEN[damage]} was changed after it was written (sha256)." in said
    if damage == "checkpoint altered":
        message = refuse(1, "compare", runs["bp"], runs["fa"], *QUICK, "--store", copied)
        assert f"{LAST} is damaged" in message
