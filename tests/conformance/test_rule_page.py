"""docs/rules.md is what the rules say of themselves today."""

from pathlib import Path

from algorithms import direct_feedback
from lab.rule_pages import page, shared_code


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
