"""Predictive coding arranged so that it computes the gradient: the same local errors, on another schedule.

Predictive coding (`pc`) differs from backpropagation because the states move while the error sinks through them: the
predictions shift, and with them what is left of the error. Two arrangements undo that. The label is clamped to the
output and the states start in a forward pass, so at first only the output has an error, `e_L = onehot(y) - u_L`.

`zil` lets every block learn at one moment only. With steps of size 1 the error reaches block L-t exactly at step t, at
full strength and while all below still stand as the forward pass left them. Learning there and then, from `e_{L-t}` and
`h_{L-t-1}`, gives each block its backpropagated error.

`fpc` keeps predictions and derivatives at their values in the forward pass while the errors settle. Then
`e_l <- (1 - rate) e_l + rate J_{l+1}ᵀ e_{l+1}` is a cascade of linear filters, whose fixed point is backpropagation.
From zero, k blocks below the output, T steps make exactly the fraction P(Binomial(T, rate) >= k) of it: the error
signal fades with depth as `rate^k` where steps are few, and is complete after k steps of size 1.

What is known to matter: neither is cheap proof that a brain could do it. The first needs a clock that tells every block
its moment, the second a memory of the forward pass in every synapse that carries an error. For the geometry inside a
network they are backpropagation on the squared error, and any difference in a result is rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from algorithms.prediction_energy import AT_REST, clamp, descend, energy, needs_hidden, predict, remaining
from algorithms.rule import Net, Params, Rule, RuleInfo, directions, mean_loss, objective_of
from algorithms.settings import number, whole


def linearised(net: Net, params: Params, x: Array) -> tuple[list[Array], list[Callable[[Array], Array]]]:
    """`u_1 .. u_L` of a forward pass, and `e -> J_lᵀ e` there for every block from the second on."""
    us, pulls = [predict(net.blocks[0], params, x)], []
    for block in net.blocks[1:]:
        u, pull = jax.vjp(partial(predict, block, params), us[-1])
        us.append(u)
        pulls.append(lambda e, pull=pull: pull(e)[0])
    return us, pulls


def zil() -> Rule:
    """Zero-divergence inference learning: block L-t learns at step t of a relaxation with steps of size 1.

    t = 0 .. L-1:  dW_{L-t} = -(f'(z_{L-t}) ⊙ e_{L-t}) h_{L-t-1}ᵀ;  h_l <- h_l - e_l + J_{l+1}ᵀ e_{l+1} for all l

    At step t all states below h_{L-t} are still those of the forward pass, and without error. The next one moves to
    `u_{L-t-1} + J_{L-t}ᵀ e_{L-t}`; what happens above is never used. So only this front is computed.

    Reference: Song et al. (2020), NeurIPS; Salvatori et al. (2021), arXiv:2103.03725.
    """

    def surrogate(key, net, params, state, batch, taps):
        del key, state
        target = clamp(net, batch)
        us, pulls = linearised(net, jax.lax.stop_gradient(params), batch.x)
        targets = [target]
        for u, pull, above in zip(us[-2::-1], pulls[::-1], us[:0:-1], strict=True):
            targets.insert(0, u + pull(targets[0] - above))
        value = energy(net, params, (batch.x, *us[:-1]), targets, taps=taps) / len(target)
        return value, {"loss": mean_loss("mse", us[-1], batch.y)}

    grads, errors = directions(surrogate)
    return Rule(info=ZIL, grads=grads, errors=errors, init=needs_hidden("zil"), objective=objective_of("mse"))


ZIL = RuleInfo(
    name="zil",
    title="Z-IL: predictive coding in which each block learns at the step when the error arrives; equals bp",
    equation="h_l <- h_l - dE/dh_l;  at step t: dW_{L-t} = -(f'(z_{L-t}) * e_{L-t}) h_{L-t-1}^T",
    citation="Song, Lukasiewicz, Xu & Bogacz (2020), Can the brain do backpropagation? Exact implementation of "
    "backpropagation in predictive coding networks, NeurIPS; Salvatori et al. (2021), arXiv:2103.03725",
    transports="the error of a block, to the states below it, through the transpose of its weights; and a clock",
    requires="at least one hidden block; composite blocks are predicted as a whole, from their input",
    deviations=(
        "all weights change together, once the last block has its direction; the paper changes each at its step",
    ),
    passes="3 (one forward, one backward)",
    representation=AT_REST,
    loss="mse",
)


def fpc(steps: int | None = None, rate: float = 1.0) -> Rule:
    """Predictive coding with fixed predictions: errors settle while predictions stay those of the forward pass.

    e_l <- e_l - rate (e_l - J_{l+1}ᵀ e_{l+1}), J and u of the forward pass;  dW_l = -(f'(z_l) ⊙ e_l) h_{l-1}ᵀ

    Args:
        steps: steps of the errors per batch; None: as many as blocks, which with a rate of 1 is exact.
        rate: step of an error, per sample; in (0, 1].

    Reference: Millidge, Tschantz & Buckley (2020), arXiv:2006.04182; Rosenbaum (2022), arXiv:2106.13082.
    """
    steps = steps if steps is None else whole("fpc", "steps", steps)
    rate = number("fpc", "rate", rate, high=1.0)

    def surrogate(key, net, params, state, batch, taps):
        del key, state
        target = clamp(net, batch)
        us, pulls = linearised(net, jax.lax.stop_gradient(params), batch.x)
        *free, scores = us

        def slope(errors):
            above = (*errors[1:], target - scores)
            return tuple(e - pull(e_above) for e, pull, e_above in zip(errors, pulls, above, strict=True))

        start = tuple(jnp.zeros_like(h) for h in free)
        errors = descend(slope, start, len(us) if steps is None else steps, rate)
        targets = [h + e for h, e in zip(free, errors, strict=True)]
        value = energy(net, params, (batch.x, *free), (*targets, target), taps=taps) / len(target)
        return value, {
            "loss": mean_loss("mse", scores, batch.y),
            "residual": remaining(slope, start, errors),
        }

    grads, errors = directions(surrogate)
    often = "L+2" if steps is None else f"{steps + 2}"
    depth = "; L blocks" if steps is None else ""
    info = replace(FPC, passes=f"{often} (one forward, one to the weights, one down in each step of the errors{depth})")
    return Rule(info=info, grads=grads, errors=errors, init=needs_hidden("fpc"), objective=objective_of("mse"))


FPC = RuleInfo(
    name="fpc",
    title="predictive coding with fixed predictions: errors settle on what the forward pass left; tends to bp",
    equation="e_l <- e_l - rate (e_l - J_{l+1}^T e_{l+1}), J of the forward pass;  dW_l = -(f'(z_l) * e_l) h_{l-1}^T",
    citation="Millidge, Tschantz & Buckley (2020), Predictive coding approximates backprop along arbitrary computation "
    "graphs, arXiv:2006.04182; Rosenbaum (2022), On the relationship between predictive coding and backpropagation, "
    "arXiv:2106.13082",
    transports="the error of a block, to the errors below it, through the transpose of its weights; at every step",
    requires="at least one hidden block; composite blocks are predicted as a whole, from their input",
    deviations=(
        "steps of size 1, as many as blocks, which is exact (Rosenbaum); Millidge et al. take many smaller ones",
    ),
    passes="",
    representation=AT_REST,
    loss="mse",
    tolerance=1e-2,  # 0 at rest, which is exact; the first block lacks about that share of its backpropagated error
)
