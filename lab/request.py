"""From what a user typed to a run's spec, and to the rule, network, optimiser and data that the spec names."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from algorithms import RULES, Rule, RuleError, RuleInfo
from lab.callstring import bind, build, canonical, has_brackets, parse, require_numbers
from lab.datasets.dataset import Dataset, Split, split
from lab.datasets.sources import load
from lab.errors import NotFound, UsageError
from lab.networks import ARCHITECTURES, Network
from lab.optimizers import OPTIMIZERS, rates_of, with_rate
from lab.recipes import Recipe, find_recipe
from lab.summary import rule_name
from lab.training import cohort_width
from lab.user_files import load_user_factory, users_own
from runs import RunSpec

PRECISIONS = {"float32": "highest", "tensorfloat32": "tensorfloat32", "bfloat16": "bfloat16"}
"""What --precision may be -> what JAX calls the precision of a product of float32 numbers."""


EPOCHS, BATCH = 20, 128
"""The budget of a run where neither the user nor a recipe says otherwise."""


@dataclass(frozen=True)
class Request:
    """One run as it was asked for, with everything that its spec names, ready to train.

    Attributes:
        spec: decides the run's id.
        chosen_by: how the optimiser was chosen: given, from a recipe with its search, or a default.
        sources: role -> (file name, bytes) of user files.
    """

    spec: RunSpec
    rule: Rule
    net: Network
    optimizer: Any
    dataset: Dataset
    split: Split
    chosen_by: dict[str, Any]
    sources: dict[str, tuple[str, bytes]] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """What a user may say about a run.

    None is for the rule's recipe to decide, and where there is none: 784-256-128-10 with the nonlinearity that the
    rule needs, Adam at 1e-3 or what the rule asks for instead, 20 epochs of batches of 128.
    """

    rule: str = "bp"
    arch: str | None = None
    data: str = "mnist"
    optimizer: str | None = None
    epochs: int | None = None
    batch: int | None = None
    seeds: str = "5"
    order_seed: int | None = None
    train_size: int | None = None
    precision: str = "float32"
    cohort: int | None = None


def make_request(wish: Wish, recipes: list[Path]) -> Request:
    """Check a wish and build what it names.

    Args:
        wish: the words of the user.
        recipes: recipe files to look for a tuned optimiser in, first match wins.

    Raises:
        UsageError, NotFound, LabError: one line each, with what to do.
    """
    rule, rule_call, sources = make_rule(wish.rule)
    own_settings = has_brackets(wish.rule)
    arch_text = default_network(rule) if wish.arch is None else wish.arch
    build_net, arch_call = build(arch_text, ARCHITECTURES, "--arch", "`lab train --help` shows examples.")
    dataset = load(wish.data)
    parts = split(dataset, train_size=wish.train_size)
    recipe = find_recipe(
        recipes,
        name=rule_name(rule_call),
        rule=rule_call if own_settings else None,
        source=source_hash(sources),
        arch=arch_call,
        data=wish.data,
        train_size=len(parts.train_y),
    )
    fits = recipe is not None and recipe.is_for(arch_call, wish.data)
    tuned = recipe if fits and (not own_settings or recipe.rule == rule_call) else None
    if tuned is not None and not own_settings:
        rule, rule_call, sources = make_rule(with_settings(wish.rule, tuned.rule))
    epochs = wish.epochs if wish.epochs is not None else tuned.epochs if tuned is not None else EPOCHS
    batch = wish.batch if wish.batch is not None else tuned.batch if tuned is not None else BATCH
    for name, value, least in (("epochs", epochs, 0), ("batch", batch, 1)):
        if value < least:
            raise UsageError(f"--{name} must be at least {least}, not {value}")
    if wish.precision != "float32" and jax.default_backend() == "cpu":
        raise UsageError(
            f"--precision {wish.precision} would change nothing: a CPU multiplies in float32 whatever is asked; "
            "leave it out, or choose another --device"
        )
    if wish.order_seed is not None and not 0 <= wish.order_seed < 2**32:
        raise UsageError(f"--order-seed must be a whole number from 0 to 2^32 - 1, not {wish.order_seed}")
    if len(parts.train_y) < batch:
        raise UsageError(f"--batch {batch} is more than the {len(parts.train_y)} training examples; make it smaller")
    if epochs * (len(parts.train_y) // batch) >= 2**31:
        raise UsageError(f"--epochs {epochs} is more steps than can be counted (2^31 - 1); make it smaller")
    net = build_net(dataset.input_shape, dataset.classes)
    if not net.hidden and rule.info.name != "bp":
        raise UsageError(f"--arch {arch_text} has no hidden layer, so there is nothing for {rule.info.name} to assign")
    optimizer_text, chosen_by = choose_optimizer(wish, arch_call, recipe, tuned, rule.info)
    schedule, optimizer_call = build(optimizer_text, OPTIMIZERS, "--optimizer", "`lab train --help` shows examples.")
    optimizer = schedule(epochs * (len(parts.train_y) // batch))
    seeds = read_seeds(wish.seeds)
    spec = RunSpec(
        rule=rule_call,
        arch=arch_call,
        optimizer=optimizer_call,
        data=dataset.name,
        data_sha256=dataset.sha256,
        train_size=len(parts.train_y),
        validation_size=len(parts.validation_y),
        epochs=epochs,
        batch=batch,
        seeds=seeds,
        order_seeds=seeds if wish.order_seed is None else [wish.order_seed] * len(seeds),
        cohort=wish.cohort or cohort_width(jax.default_backend()),
        precision=wish.precision,
        sources=tuple((role, hashlib.sha256(data).hexdigest()) for role, (_, data) in sources.items()),
    )
    return Request(spec, rule, net, optimizer, dataset, parts, chosen_by, sources)


def read_seeds(text: str) -> tuple[int, ...]:
    """`"5"` is seeds 0 to 4; `"3,7,8"` and `"10-14"` name seeds, in any mixture.

    Raises:
        UsageError: not whole numbers, none at all, the same one twice, or beyond 32 bits.
    """
    words = [word.strip() for word in str(text).split(",")]
    try:
        if len(words) == 1 and words[0].isdecimal():
            spans = [range(int(words[0]))]
        else:
            ends = [word.partition("-") for word in words if word]
            spans = [range(int(low), int(high if dash else low) + 1) for low, dash, high in ends]
            if not all(spans):
                raise ValueError("a span that runs backwards")
    except ValueError:
        raise UsageError(f"--seeds '{text}': give a number of seeds (5) or the seeds themselves (0,3,10-14)") from None
    # No list is made before its length is known: `--seeds 0-99999999999` must not fill the memory.
    if sum(span.stop - span.start for span in spans) > 10_000 or max((s.stop for s in spans), default=0) > 2**32:
        raise UsageError(f"--seeds '{text}': seeds are whole numbers from 0 to 2^32 - 1, at most 10,000 of them")
    seeds = [seed for span in spans for seed in span]
    if not seeds:
        raise UsageError(
            f"--seeds '{text}' names no seed; at least one is needed, and 5 for an interval worth printing"
        )
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds '{text}' names a seed twice; the same network would be counted twice")
    return tuple(seeds)


def seeds_text(seeds: Sequence[int]) -> str:
    """What `read_seeds` reads as these seeds: `5`, `3-5` or `0,3,10-14`."""
    if list(seeds) == list(range(len(seeds))):
        return str(len(seeds))
    ends: list[tuple[int, int]] = []
    for seed in seeds:
        if ends and seed == ends[-1][1] + 1:
            ends[-1] = (ends[-1][0], seed)
        else:
            ends.append((seed, seed))
    return ",".join(str(low) if low == high and len(ends) > 1 else f"{low}-{high}" for low, high in ends)


def make_rule(text: str) -> tuple[Rule, str, dict[str, tuple[str, bytes]]]:
    """The rule a call string names: one of the table, or the factory called `rule` in a user's Python file.

    Returns:
        The rule, its canonical call string, and the user's source if there is one.
    """
    name = text.partition("(")[0]
    if "/" in name and ".py" not in name:
        there = f"; did you mean {name}.py" if Path(f"{name}.py").is_file() else ""
        raise NotFound(f"--rule: there is no rule file {name}: a user's rule is a Python file, ending in .py{there}")
    try:
        if ".py" not in name:
            rule, call = build(text, RULES, "--rule", "`lab rules` lists them; your own is --rule ./my_rule.py.")
            return rule, call, {}
        call = parse(text, "--rule")
        path = Path(call.name).expanduser()
        factory, source = load_user_factory(path, "rule", "--rule")
        bound = bind(call, factory, "--rule")
        require_numbers(bound, f"--rule '{text}'")
        with users_own(path, "--rule"):
            rule = factory(*bound.args, **bound.kwargs)
    except RuleError as error:
        raise UsageError(f"--rule '{text}': {error}") from None
    if not isinstance(rule, Rule):
        raise UsageError(f"--rule: rule() in {path} must return an algorithms.Rule, not {type(rule).__name__}")
    if not isinstance(rule.info, RuleInfo):
        raise UsageError(f"--rule: the Rule of {path} needs info=algorithms.RuleInfo(...), not {rule.info!r}")
    check_card(rule.info, bound.arguments, path)
    return rule, canonical(path.stem, bound), {"rule": (path.name, source)}


def source_hash(sources: dict[str, tuple[str, bytes]]) -> str:
    """sha256 of the user's rule file; "" for a rule of the lab."""
    return hashlib.sha256(sources["rule"][1]).hexdigest() if sources else ""


def check_card(info: RuleInfo, takes: Collection[str], path: Path) -> None:
    """What a search would need of a user's card.

    Args:
        takes: the parameters of his factory.

    Raises:
        UsageError: rates that are not six, ascending and above 0; a knob that the factory does not take.
    """
    if info.rates and not (len(info.rates) == 6 and info.rates[0] > 0 and list(info.rates) == sorted(set(info.rates))):
        raise UsageError(f"--rule: the card of {path} needs six ascending rates above 0, or none, not {info.rates!r}")
    if info.knob is not None and info.knob[0] not in takes:
        raise UsageError(f"--rule: the card of {path} names a knob '{info.knob[0]}' that rule() does not take")


def default_network(rule: Rule) -> str:
    """784-256-128-10 on MNIST, with the nonlinearity that the rule needs."""
    act = rule.info.nonlinearity
    return "mlp(256,128)" if act == "relu" else f"mlp(256,128,act={act})"


def with_settings(asked: str, recipe_rule: str) -> str:
    """What was asked for by name, a path perhaps, with the settings of a recipe's canonical call string."""
    return asked + recipe_rule[recipe_rule.index("(") :]


def choose_optimizer(
    wish: Wish, arch_call: str, recipe: Recipe | None, tuned: Recipe | None, info: RuleInfo
) -> tuple[str, dict[str, Any]]:
    """What the user gave, else that of a recipe of the rule, else one rate of its kind; and how it came about.

    A recipe for another network or data set, or one that chose other settings than the user's, lends its learning
    rate, which is nearer than none, and nothing else.

    Args:
        tuned: the recipe if it is for this very network, data set and these settings: epochs, batch and the settings
            that the user left open are then its.
    """
    if wish.optimizer is not None:
        return wish.optimizer, {"how": "given"} | ({} if tuned is None else {"settings": tuned.record()})
    if recipe is None:
        optimizer = with_rate(info.optimizer, rates_of(info)[2])
        return optimizer, {"how": "default", "note": "no recipe for this rule; tune one with `lab tune`"}
    other = "other settings" if recipe.is_for(arch_call, wish.data) else "another network or data set"
    return recipe.optimizer, {"how": "recipe" if tuned else f"recipe for {other}"} | recipe.record()
