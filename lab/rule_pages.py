"""What is known of every rule: cards, recipes, and which networks it runs on. `docs/rules.md` is made here."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Collection, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp

from algorithms import RULES, Batch, Rule, RuleError
from algorithms.rule import RuleInfo
from lab.callstring import build, parse, short
from lab.networks import ARCHITECTURES
from lab.recipes import PACKAGED, Recipe, read_all
from lab.request import default_network
from lab.settling import UNSETTLED
from lab.summary import spread

NETWORKS = {
    "mlp": "mlp(16,12,act={act})",
    "conv": "conv(2,3,dense=(8,),kernel=3,act={act})",
    "resnet": "resnet(4,8,blocks=1,act={act})",
    "resnet, batch norm": "resnet(4,8,blocks=1,norm=batch,act={act})",
    "vit": "vit(8,depth=1,heads=2,patch=4,act={act})",
}
"""Small networks of every kind, with the nonlinearity a rule needs, for the table of rules and networks."""


def refusal(rule: Rule, network: str) -> str:
    """Why a rule does not run on a network, in the rule's own words; "" if it does. Nothing is computed.

    Args:
        network: a call string of `--arch`.
    """
    net = build(network, ARCHITECTURES, "--arch")[0]((16, 16, 1), 4)
    batch = Batch(jnp.zeros((8, 16, 16, 1)), jnp.zeros(8, jnp.int32))

    def step(key):
        params = net.init(key)
        state = rule.init(key, net, params, batch)
        return rule.grads(key, net, params, state, batch)[0]

    try:
        jax.eval_shape(step, jax.random.key(0))
    except RuleError as error:
        return str(error)
    return ""


def network_for(rule: Rule, kind: str) -> str:
    """The call string of `NETWORKS[kind]` with the nonlinearity that the rule needs."""
    return NETWORKS[kind].format(act=rule.info.nonlinearity)


def recipe_of(
    recipes: Sequence[Recipe],
    names: Sequence[str],
    rule: Rule,
    data: str,
    arch: str | None = None,
    source: str = "",
) -> Recipe | None:
    """The first recipe under one of these names on this data, for this network or its twin with the nonlinearity that
    the rule needs; of several, that of the most training examples.

    Args:
        names: `fa`, or a canonical call string, for settings that were searched for on their own.
        arch: a call string; None for the rule's default network, or, where that has no recipe, one of other widths.
        source: sha256 of the user's file that the rule is from; "" for a rule of the lab.
    """
    found = [r for r in recipes if r.name in names and r.data == data and r.source == source]
    found.sort(key=lambda r: -r.train_size)
    asked = _canonical(arch or default_network(rule))
    exact = next((r for r in found if r.arch == asked), None)
    if exact is not None:
        return exact
    if arch is not None:  # a rule may need another nonlinearity than the one that `arch` has by default
        return next((r for r in found if _without_act(r.arch) == _without_act(asked)), None)
    return next((r for r in found if parse(r.arch, "").name == parse(asked, "").name), None)


def _canonical(arch: str) -> str:
    return build(arch, ARCHITECTURES, "--arch", "`lab train --help` shows examples.")[1]


def _without_act(arch: str) -> tuple[Any, ...]:
    call = parse(arch, "")
    return call.name, call.args, {key: value for key, value in call.kwargs.items() if key != "act"}


def accuracy_text(recipe: Recipe | None, rule: Rule, arch: str | None = None) -> str:
    """`97.81 ± 0.12 % (n = 5)` of a confirmed recipe, and its network unless it is the one asked for; else a dash.

    Args:
        arch: the network asked for, as in `recipe_of`.
    """
    if recipe is None or not recipe.test_accuracy:
        return "–"
    found = spread(list(recipe.test_accuracy))
    sd = "" if found["sd"] is None else f" ± {100 * found['sd']:.2f}"
    same = recipe.arch == _canonical(arch or default_network(rule))
    network = "" if same else f" on {short(recipe.arch, ARCHITECTURES)}"
    return f"{100 * found['mean']:.2f}{sd} % (n = {len(recipe.test_accuracy)}){network}"


def passes_text(rule: Rule, recipe: Recipe | None) -> str:
    """The number in front of what a card says of its forward passes, with the recipe's settings if there is one."""
    tuned = rule if recipe is None else build(recipe.rule, RULES, "--rule")[0]
    return re.split(r"[ (,;]", tuned.info.passes, maxsplit=1)[0]


def cost_text(recipe: Recipe | None) -> str:
    """CPU-seconds of one seed's epoch."""
    return "–" if recipe is None or recipe.cpu_seconds is None else f"{recipe.cpu_seconds:.2f}"


def families() -> dict[str, list[str]]:
    """Module of a family -> its rules, both in the order of the table."""
    found: dict[str, list[str]] = {}
    for name, factory in RULES.items():
        found.setdefault(factory.__module__, []).append(name)
    return found


def page() -> str:
    """The whole of `docs/rules.md`."""
    parts = [HEAD.strip(), summary_table(), NETWORK_HEAD.strip(), network_table()]
    for family, names in families().items():
        module = importlib.import_module(family)
        title, _, body = (inspect.getdoc(module) or "").partition("\n")
        parts += [f"## {title.rstrip('.')}", body.strip()]
        parts += [rule_section(name, RULES[name]) for name in names]
        if code := shared_code(module, names):
            parts += [f"#### Used by the code above, from `{family.replace('.', '/')}.py`", f"```python\n{code}\n```"]
    return "\n\n".join(part for part in parts if part) + "\n"


def summary_table() -> str:
    rows = ["| rule | what it is | MNIST, test | Fashion-MNIST, test | CPU-s per epoch | forward passes per sample |"]
    rows.append("|---|---|---|---|---|---|")
    recipes = read_all(PACKAGED)
    for name, factory in RULES.items():
        rule = factory()
        mnist, fashion = (recipe_of(recipes, [name], rule, data) for data in ("mnist", "fashion-mnist"))
        cells = [f"[`{name}`](#{name})", rule.info.title, *(accuracy_text(r, rule) for r in (mnist, fashion))]
        rows.append("| " + " | ".join([*cells, cost_text(mnist), passes_text(rule, mnist)]) + " |")
    return "\n".join(rows)


def network_table() -> str:
    rows = ["| rule | " + " | ".join(NETWORKS) + " |", "|---" * (len(NETWORKS) + 1) + "|"]
    notes: dict[str, int] = {}
    for name, factory in RULES.items():
        rule = factory()
        cells = []
        for kind in NETWORKS:
            why = refusal(rule, network_for(rule, kind))
            # The rule and the block stand in the table already; the reason is what follows the first colon.
            reason = why.partition(": ")[2] or why
            if not why and (settings := UNSETTLED.get(name, {}).get(kind)):
                reason = unsettled_text(settings)
            number = f" ({notes.setdefault(reason, len(notes) + 1)})" if reason else ""
            cells.append(("no" if why else "does not settle" if reason else "runs") + number)
        rows.append(f"| `{name}` | " + " | ".join(cells) + " |")
    told = [f"{number}. {reason[0].upper()}{reason[1:]}." for reason, number in notes.items()]
    return "\n".join(rows) + "\n\n" + "\n".join(told)


def unsettled_text(settings: str) -> str:
    """The note of a rule that runs and whose phases do not come to rest, with settings with which they do."""
    return (
        "it runs, and its states do not come to rest: `residual`, the slope of the energy where they stop over that "
        "where they start, is above 1, so they run away, and directions are not those of the rule. On this small "
        f"network, before training, `{settings}` settles; other networks want settings of their own"
    )


def rule_section(name: str, factory: Callable[..., Rule]) -> str:
    """One rule: its card, its recipe, and its code."""
    info = factory().info
    lines = [f"### {name}", f"**{info.title[0].upper()}{info.title[1:]}.**", f"```\n{info.equation}\n```"]
    facts = [
        ("Source", info.citation),
        ("Transports", info.transports),
        ("Requires", info.requires),
        ("Cost", f"{info.passes} forward passes per sample"),
        ("Compared", info.representation),
    ]
    facts += [("Differs from the paper", text) for text in info.deviations]
    lines.append("\n".join(f"- {label}: {text}" for label, text in facts))
    lines += [recipe_text(recipe, factory()) for recipe in read_all(PACKAGED) if recipe.name.partition("(")[0] == name]
    lines.append(f"```python\n{inspect.getsource(factory).rstrip()}\n```")
    return "\n\n".join(lines)


def shared_code(module: ModuleType, rules: Collection[str]) -> str:
    """What the factories of these rules use of their module, directly or not, in its order; no factories, no cards."""
    source = inspect.getsource(module)
    hidden = {name for name, value in vars(module).items() if isinstance(value, RuleInfo)}
    pieces = [(_defined(node) - hidden, node) for node in ast.parse(source).body]
    reached: set[str] = set()
    found = set(rules)
    while found > reached:
        reached = set(found)
        within = [inner for names, node in pieces if names & reached for inner in ast.walk(node)]
        used = {inner.id for inner in within if isinstance(inner, ast.Name)}
        found |= {name for names, _ in pieces for name in names & used}
    lines = source.splitlines()
    shared = []
    for names, node in pieces:
        if names & reached - set(rules):
            first = min(part.lineno for part in (node, *getattr(node, "decorator_list", ())))
            shared.append("\n".join(lines[first - 1 : node.end_lineno]))
    return "\n\n\n".join(shared)


def _defined(node: ast.stmt) -> set[str]:
    """Names that a top-level statement defines, or that of the function whose derivative it tells JAX."""
    if isinstance(node, ast.Assign):
        return {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    calls = [node.value.func] if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else []
    for teller in getattr(node, "decorator_list", calls):
        if isinstance(teller, ast.Attribute) and teller.attr in ("defvjp", "defjvp"):
            return {ast.unparse(teller.value)}
    return {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()


def recipe_text(recipe: Recipe, rule: Rule) -> str:
    """A recipe in a sentence, with its command."""
    edge = " The best lay at the edge of what was tried." if recipe.edge else ""
    tests = accuracy_text(recipe, rule).partition(" on ")[0]  # its network is told anyway
    told = "" if tests == "–" else f": {tests} on the test set"
    return (
        f"Recipe for {recipe.data}, `{recipe.arch}`: `{recipe.rule}` with `{recipe.optimizer}`, {recipe.epochs} epochs "
        f"of batches of {recipe.batch}{told} (`{recipe.command}`: {len(recipe.trials)} trials of {recipe.trial_epochs} "
        f"epochs on {recipe.train_size:,} examples).{edge}"
    )


def card(info: RuleInfo, call: str) -> list[tuple[str, str]]:
    """A rule's card as labelled lines."""
    return [
        ("equation", info.equation),
        ("citation", info.citation),
        ("transports", info.transports),
        ("requires", info.requires),
        *(("deviation", text) for text in info.deviations or ("none",)),
        ("passes", info.passes),
        ("compared", info.representation),
        ("loss", info.loss),
        ("settings", call.partition("(")[2].removesuffix(")") or "none"),
    ]


HEAD = """
# The learning rules

This page is made by `lab rules --markdown`; every equation stands beside its code. Block l of a network computes
`z_l = W_l h_{l-1} + b_l` and `h_l = f(z_l)`, with `h_0 = x`; the last `z_L` are the logits. `e` is the derivative of
the loss at the logits (`softmax(z_L) - onehot(y)` for cross-entropy), `delta_l` the error signal that reaches `z_l`,
and `*` the product entry by entry. Backpropagation sends `delta_l = (W_{l+1}^T delta_{l+1}) * f'(z_l)`: every neuron
would have to know the weights of the synapses behind it, and the brain has no known way to tell it. Every rule here
is an answer to what could be sent, or done, instead. Equations are of one sample, a column; the code has a sample in
every row and keeps a kernel as (inputs, outputs), so that what is `W h` in an equation is `h @ W` there.

Accuracies are means ± standard deviations over seeds of the last step's network on the test set, on 784-256-128-10
with the nonlinearity that the rule needs. All rules are tuned by the same search (`lab tune`): eight trials on a
validation split, more where the best lies at the edge, of 5 epochs each; rules whose noise outlasts these (`np`,
`drtp`, `es` on Fashion-MNIST) have trials of 20, as their recipes say, and `es` trains for 60 on MNIST. A pass is one
forward pass; a backward pass counts as two.
"""

NETWORK_HEAD = f"""
## Which rule runs on which network

Tried on small ones, with the nonlinearity that the rule needs: {
    ", ".join(f"`{text.replace(',act={act}', '')}`" for text in NETWORKS.values())
}.
"""
