"""Functional probes by name: what networks do, beside `probes.PROBES`, which measure their representations.

    from probes.functional import FUNCTIONAL
    from probes.subject import Task, subject

    task = Task(y, x)                                    # labels, and inputs as the network takes them
    a, b = (subject(task, model, params) for params in (first, second))
    FUNCTIONAL["agreement"]().value(task, a, b)
    FUNCTIONAL["stitching"](by="match").value(task, a.at("dense1"), b.at("dense1"))

They run networks through JAX, which is why they are not loaded with the rest of the room. To add one, write a factory
that returns a `FunctionalProbe` and add one row here.
"""

from collections.abc import Callable

from probes.adversarial import adversarial_distance, adversarial_transfer
from probes.calibration import calibration_error
from probes.connectivity import mode_connectivity
from probes.curvature import hessian
from probes.outputs import agreement, error_consistency, output_divergence
from probes.probe import FunctionalProbe
from probes.sensitivity import jacobian_volume
from probes.stitching import head_swap, probe_transfer, stitching
from probes.tangent_kernel import kernel_velocity, rich_lazy, tangent_alignment, tangent_distance
from probes.weight_probes import (
    distance_from_initialisation,
    gradient_alignment,
    subspace_overlap,
    weight_feedback_angle,
    weight_spectrum,
)

FUNCTIONAL: dict[str, Callable[..., FunctionalProbe]] = {
    "agreement": agreement,
    "error-consistency": error_consistency,
    "output-divergence": output_divergence,
    "calibration-error": calibration_error,
    "stitching": stitching,
    "head-swap": head_swap,
    "probe-transfer": probe_transfer,
    "mode-connectivity": mode_connectivity,
    "adversarial-transfer": adversarial_transfer,
    "adversarial-distance": adversarial_distance,
    "jacobian-volume": jacobian_volume,
    "hessian": hessian,
    "tangent-alignment": tangent_alignment,
    "tangent-distance": tangent_distance,
    "rich-lazy": rich_lazy,
    "kernel-velocity": kernel_velocity,
    "weight-spectrum": weight_spectrum,
    "distance-from-initialisation": distance_from_initialisation,
    "subspace-overlap": subspace_overlap,
    "weight-feedback-angle": weight_feedback_angle,
    "gradient-alignment": gradient_alignment,
}
