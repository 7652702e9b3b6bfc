"""Rules and networks of the conformance tests, made once."""

from functools import cache

from algorithms import RULES
from lab.callstring import build
from lab.check_subject import ALLOWANCES, NONE, Subject, default_arch, network_of
from lab.networks import ARCHITECTURES
from lab.rule_pages import NETWORKS, network_for, refusal


@cache
def subject(name: str, kind: str = "") -> Subject:
    """A rule as `lab check rule` has it, or on a small network of one kind; compiled once for all its checks."""
    rule = RULES[name]()
    net = small(network_for(rule, kind)) if kind else network_of(default_arch(rule))[0]
    return Subject(rule, net, ALLOWANCES.get(name, NONE))


@cache
def small(network: str):
    """A network for images of 16×16, of a call string of `NETWORKS`."""
    return build(network, ARCHITECTURES, "--arch")[0]((16, 16, 1), 4)


@cache
def why_not(name: str, kind: str) -> str:
    """The rule's refusal of a kind of network; "" where it runs."""
    rule = RULES[name]()
    return refusal(rule, network_for(rule, kind))


RUNS = [(name, kind) for name in RULES for kind in NETWORKS if not why_not(name, kind)]
REFUSED = [(name, kind) for name in RULES for kind in NETWORKS if why_not(name, kind)]
