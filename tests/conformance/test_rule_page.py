"""docs/rules.md is what the rules say of themselves today."""

from pathlib import Path

from algorithms import direct_feedback
from lab.rule_pages import NETWORKS, network_table, page, shared_code
from lab.settling import UNSETTLED


def test_the_page_is_up_to_date():
    path = Path(__file__).resolve().parents[2] / "docs" / "rules.md"
    assert path.read_text() == page(), "run: lab rules --markdown > docs/rules.md"


def test_the_code_that_factories_share_is_found_through_every_call_and_derivative():
    code = shared_code(direct_feedback, ["sdfa", "drtp"])
    for line in ("def _direct(", "def sent_directly(", "\n@partial(", "_sent.defvjp(", "def _sent_backward("):
        assert code.count(line) == 1
    for line in ("def sdfa(", "DRTP = ", "import", "def dfa("):
        assert line not in code
    assert shared_code(direct_feedback, []) == ""


def test_the_table_names_every_rule_that_runs_and_does_not_settle():
    """And in its note the settings that do, which tests/conformance/test_every_network.py tries."""
    table, _, notes = network_table().partition("\n\n")
    told = dict(line.split(". ", 1) for line in notes.splitlines())
    rows = {cells[0].strip("` "): cells[1:] for line in table.splitlines() if (cells := line.strip("| ").split(" | "))}
    for name, row in rows.items():
        for kind, cell in zip(NETWORKS, row, strict=False):
            settings = UNSETTLED.get(name, {}).get(kind)
            assert cell.startswith("does not settle (") == (settings is not None), (name, kind)
            if settings:
                assert f"`{settings}` settles" in told[cell.removeprefix("does not settle (").removesuffix(")")]
