"""Learning rules: one contract (`rule.py`), one way for weights to be transported (`transport.py`), one table."""

from algorithms.backprop import bp, frozen
from algorithms.evolution import es
from algorithms.feedback import dfa, fa
from algorithms.forward_forward import ff
from algorithms.rule import Activations, Batch, Rule, RuleError, RuleInfo

RULES = {"bp": bp, "fa": fa, "dfa": dfa, "es": es, "ff": ff, "frozen": frozen}
"""Every rule by its short name; a row and a file add one."""

__all__ = ["RULES", "Activations", "Batch", "Rule", "RuleError", "RuleInfo"]
