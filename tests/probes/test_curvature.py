"""Hessians and tangent kernels: against the whole matrix, closed forms of linear networks, and limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from lab_models import drawn, task_of, trained

from lab.functional_model import ForwardModel
from lab.networks import mlp
from probes import PROBES, Undefined, compare
from probes.curvature import hessian
from probes.forward import cross_entropy, doubled
from probes.subject import Subject, Task
from probes.tangent_kernel import kernel_alignment, rich_lazy, tangent_alignment, tangent_distance, tangent_kernel

SMALL = ForwardModel(mlp(3, act="tanh")((4, 4, 1), 3))
LINEAR = ForwardModel(mlp()((4, 4, 1), 3))


@pytest.fixture(scope="module")
def task():
    return task_of(n=30, side=4, classes=3)


@pytest.fixture(scope="module")
def small(task):
    return trained(task, SMALL, 0, steps=10)


def test_hessian_is_that_of_jax_in_full(task, small):
    """Eigenvalues by Lanczos to a tolerance of 1e-10 against those of the matrix of all second derivatives (63
    parameters); the trace within four of its own standard errors, and these errors as theory has them."""
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(doubled(small.params))
        x, y = jnp.asarray(task.x), jnp.asarray(task.y)

        def loss(theta):
            return cross_entropy(SMALL.scores(unravel(theta), x), y)

        H = np.asarray(jax.jit(jax.hessian(loss))(flat))
        slope = np.asarray(jax.jit(jax.grad(loss))(flat))
    eigenvalues = np.linalg.eigvalsh(H)[::-1]
    found = hessian(k=3, draws=200, tolerance=1e-10).value(task, small)
    ours = [found["value"], found["eigenvalue_2"], found["eigenvalue_3"]]
    np.testing.assert_allclose(ours, eigenvalues[:3], rtol=1e-8)
    assert found["smallest"] == pytest.approx(eigenvalues[-1], abs=1e-8)
    assert eigenvalues[-1] < 0  # ten steps from its start this is no minimum
    assert found["gradient"] == pytest.approx(np.linalg.norm(slope), rel=1e-9)
    assert abs(found["trace"] - np.trace(H)) < 4 * found["trace_se"]
    # Var vᵀHv = 2 Σ_{i≠j} H_ij² for random signs; 200 draws of it spread by some 10 to 15 %.
    spread = np.sqrt(2 * ((H**2).sum() - (np.diag(H) ** 2).sum()) / 200)
    assert found["trace_se"] == pytest.approx(spread, rel=0.3)


def test_hessian_needs_logits_and_more_parameters_than_eigenvalues(task, small):
    assert hessian().value(task, Subject(small.scores, Undefined("goodness"), SMALL, small.params)).reason == "goodness"
    assert "63 parameters" in hessian(k=63).value(task, small).reason


def test_tangent_kernel_of_a_linear_network_is_the_inputs_own(task):
    """f_c(x) = w_c·x + b_c: Θ_ij = x_i·x_j + 1 at any weights."""
    s = drawn(task, LINEAR, 0)
    X = task.x.reshape(30, -1)
    with jax.enable_x64(True):
        found = tangent_kernel(LINEAR, doubled(s.params), jnp.asarray(task.x), 3)
    np.testing.assert_allclose(found, X @ X.T + 1.0, atol=1e-12)
    cka = compare(PROBES["linear-cka"](), X, np.eye(3)[task.y])
    assert tangent_alignment().value(task, s) == pytest.approx(cka, abs=1e-9)
    other = drawn(task, LINEAR, 1)
    assert tangent_distance().value(task, s, other) == pytest.approx(0.0, abs=1e-12)
    lazy = rich_lazy().value(task, Subject(s.scores, model=LINEAR, params=s.params, initial=other.params))
    assert lazy["value"] == pytest.approx(0.0, abs=1e-12)
    assert lazy["alignment"] == pytest.approx(lazy["initial"], abs=1e-12)
    assert lazy["weights"] > 0.5


def test_tangent_kernel_is_the_product_of_the_whole_jacobian(task, small):
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(doubled(small.params))
        x = jnp.asarray(task.x)
        J = np.asarray(jax.jit(jax.jacrev(lambda theta: SMALL.scores(unravel(theta), x)))(flat))
        found = tangent_kernel(SMALL, doubled(small.params), x, 3)
    np.testing.assert_allclose(found, np.einsum("icp,jcp->ij", J, J) / 3, rtol=1e-9, atol=1e-12)


def test_training_moves_a_small_networks_kernel_towards_the_task(task, small):
    found = rich_lazy().value(task, small)
    assert found["value"] > 1e-3
    assert found["weights"] > 1e-2
    assert found["alignment"] > found["initial"]
    start = Subject(small.scores, model=SMALL, params=small.initial)
    assert tangent_distance().value(task, small, start) == pytest.approx(found["value"], abs=1e-12)
    assert "before training" in rich_lazy().value(task, start).reason


def test_alignment_of_kernels_is_cka_and_needs_variance():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((40, 6)), rng.standard_normal((40, 9))
    expected = compare(PROBES["linear-cka"](), X, Y)
    assert kernel_alignment(X @ X.T, Y @ Y.T) == pytest.approx(expected, abs=1e-9)
    assert kernel_alignment(1e-200 * X @ X.T, 1e150 * Y @ Y.T) == pytest.approx(expected, abs=1e-9)
    assert isinstance(kernel_alignment(X @ X.T, np.ones((40, 40))), Undefined)
    assert isinstance(kernel_alignment(np.zeros((40, 40)), X @ X.T), Undefined)


def test_one_class_has_no_alignment(task):
    s = drawn(task, LINEAR, 0)
    assert "one class" in tangent_alignment().value(Task(np.zeros(30, int), task.x), s).reason
