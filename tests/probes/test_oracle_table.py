"""Where each measure is held against something that is not this project's code: every measure has at least one row.

Of pair and single measures with an exact definition the agreement is 1e-6 relative or better. Means over random draws
(capacity, glue) are exact for given draws; rtd is exact to ripser's single precision.
"""

import ast
from pathlib import Path

import pytest

from probes import PROBES

CONSTANTS = "test_pair_probe_gives_the_agreed_value"  # values on one fixed input, of codes that agree with each other
RANKS = "test_ranks_are_those_of_sklearns_variances_and_scipys_entropy"
AGREED = "test_single_probe_gives_the_agreed_value"
SPREAD = "test_spread_is_that_of_sklearns_cosines"
COLLAPSE = "test_collapse_equals_its_definitions_with_sklearns_class_means"
DCOR = "test_linear_cka_equals_dcors_correlation_of_squared_distances"
NEAR = "test_neighbourhood_measures_equal_their_definitions_on_sklearns_neighbours"
COMMON = "test_common_neighbours_are_those_of_sklearn"
TANGENT = "test_measures_of_tangent_kernels_are_those_of_whole_jacobians"
ANGLES = "test_angles_of_feedback_and_of_directions_are_scipys"

ORACLES = {
    "linear-cka": (CONSTANTS, DCOR, "test_linear_cka_equals_rsatoolboxs_whitened_cosine"),
    "debiased-cka": (CONSTANTS, DCOR),
    "minibatch-cka": ("test_minibatch_cka_equals_dcors_u_products_summed_over_batches",),
    "rbf-cka": (CONSTANTS, "test_rbf_cka_equals_the_definition_with_sklearns_kernel"),
    "distance-correlation": (CONSTANTS, "test_distance_correlation_equals_dcor"),
    "eigenspace-overlap": ("test_eigenspace_overlap_is_the_mean_squared_cosine_of_scipys_subspace_angles",),
    "angular-procrustes": (CONSTANTS, "test_procrustes_angle_is_reached_by_scipys_rotation"),
    "normalised-procrustes": (CONSTANTS, "test_normalised_distance_is_what_scipys_rotation_leaves_of_unit_arrays"),
    "procrustes": (CONSTANTS, "test_size_and_shape_distance_is_what_scipys_rotation_leaves"),
    "shape": (CONSTANTS, "test_shape_equals_its_definition_with_scipys_matrix_roots"),
    "cca": (CONSTANTS, "test_correlations_are_the_cosines_of_scipys_angles_between_subspaces"),
    "svcca": (CONSTANTS, "test_svcca_equals_scipys_angles_between_sklearns_components"),
    "pwcca": (CONSTANTS, "test_pwcca_equals_its_definition_by_whitening_covariances"),
    "permutation": (CONSTANTS, "test_permutation_equals_scipys_assignment_of_padded_units"),
    "soft-matching": ("test_soft_matching_equals_the_optimal_transport_of_another_package",),
    "gulp": ("test_gulp_is_the_squared_difference_of_independent_ridge_predictions",),
    "ridge": ("test_ridge_equals_independent_ridge_regressions_on_the_same_folds",),
    "rsa": (CONSTANTS, "test_rsa_equals_rsatoolbox_also_with_ties", "test_rsa_equals_scipy"),
    "mutual-knn": (CONSTANTS, COMMON),
    "cycle-knn": (CONSTANTS, COMMON),
    "cknna": (CONSTANTS, COMMON),
    "jaccard": (NEAR,),
    "rank-similarity": (NEAR,),
    "second-order-cosine": (NEAR,),
    "rtd": (CONSTANTS, "test_rtd_equals_the_form_with_one_block_of_zeros"),
    "imd": ("test_imd_equals_the_definition_with_sklearns_graph_and_numpys_eigenvalues",),
    "participation-ratio": (AGREED, RANKS, "test_participation_ratio_is_the_uncorrected_one_of_dimensionality"),
    "debiased-participation-ratio": ("test_debiased_participation_ratio_equals_the_row_form_of_its_authors",),
    "effective-rank": (AGREED, RANKS),
    "eigenvalue-effective-rank": (AGREED, RANKS),
    "stable-rank": (AGREED, RANKS),
    "spectrum-exponent": ("test_exponent_and_its_fit_are_scipys_regression_on_sklearns_variances",),
    "twonn": ("test_dimensions_equal_scikit_dimension",),
    "mle-dimension": ("test_dimensions_equal_scikit_dimension",),
    "nc1": (COLLAPSE,),
    "nc2": (COLLAPSE,),
    "nc3": (COLLAPSE,),
    "nc4": (COLLAPSE,),
    "capacity": ("test_capacity_is_its_definition_in_the_full_space_with_another_solver",),
    "glue": ("test_glue_is_its_definition_in_the_full_space_with_another_solver",),
    "few-shot": ("test_wide_and_narrow_classes_take_the_same_formula",),
    "anisotropy": (SPREAD,),
    "uniformity": (SPREAD,),
    "alignment": (SPREAD,),
    "selectivity": ("test_selectivity_is_that_of_pandas_class_means",),
    "sparsity": ("test_silence_is_counted_as_by_hand_on_random_activations",),
    "dead-units": ("test_silence_is_counted_as_by_hand_on_random_activations",),
    "linear-probe": ("test_accuracy_equals_an_independent_ridge_classifier",),
    "knn-probe": ("test_neighbours_vote_as_in_an_independent_classifier",),
    "concept-probe": ("test_explained_share_equals_an_independent_ridge_regression",),
}

FUNCTIONAL_ORACLES = {
    "agreement": ("test_bounds_of_agreement_are_those_of_all_answers_that_there_are",),
    "error-consistency": ("test_error_consistency_is_cohens_kappa_of_being_right",),
    "output-divergence": ("test_divergence_is_scipys_jensen_shannon_distance",),
    "calibration-error": ("test_calibration_error_is_that_of_sklearns_curve_over_quantiles",),
    "stitching": (
        "test_a_stitch_is_sklearns_ridge_between_the_two_halves_written_out",
        "test_a_stitch_by_task_loss_in_front_of_a_linear_readout_is_logistic_regression",
    ),
    "head-swap": ("test_a_swapped_head_sees_scipys_rotation_of_the_other_layer",),
    "probe-transfer": ("test_a_transferred_readout_is_sklearns_ridge_behind_scipys_rotation",),
    "mode-connectivity": (
        "test_barrier_is_that_of_the_definition_and_the_same_in_both_directions",
        "test_units_of_one_hidden_layer_are_matched_by_one_assignment",
    ),
    "adversarial-transfer": ("test_attacks_carry_over_between_linear_classifiers_as_far_as_their_normals_agree",),
    "adversarial-distance": ("test_distance_of_a_linear_classifier_is_exact",),
    "jacobian-volume": (
        "test_jacobian_of_a_linear_network_is_its_weights_everywhere",
        "test_spectra_of_a_network_with_maps_are_those_of_finite_differences",
    ),
    "hessian": ("test_hessian_is_that_of_jax_in_full",),
    "tangent-alignment": (TANGENT,),
    "tangent-distance": (TANGENT,),
    "rich-lazy": (TANGENT,),
    "kernel-velocity": (TANGENT,),
    "weight-spectrum": ("test_spectrum_of_a_random_matrix_is_scipys",),
    "subspace-overlap": ("test_subspaces_overlap_by_the_squared_cosines_of_scipys_angles",),
    "distance-from-initialisation": ("test_distance_is_of_the_weights_alone_relative_and_absolute",),
    "weight-feedback-angle": (ANGLES,),
    "gradient-alignment": (ANGLES,),
}

# Relations that the literature proves between measures.
IDENTITIES = {
    "CKA is the whitened cosine of squared distances": (
        "test_whitened_cosine_of_squared_distances_is_linear_cka",
        "test_linear_cka_equals_rsatoolboxs_whitened_cosine",
    ),
    "the Bures similarity of distances is the cosine of the Procrustes angle": (
        "test_cosine_of_the_angle_is_rsatoolboxs_bures_similarity_of_squared_distances",
        "test_cosine_of_the_procrustes_angle_is_the_normalised_bures_similarity",
    ),
    "GULP without penalty is d1 + d2 − 2Σρ²": (
        "test_gulp_without_penalty_is_the_ranks_less_twice_the_squared_correlations",
    ),
    "unbiased distance correlation is debiased CKA of −D": (
        "test_unbiased_distance_correlation_is_debiased_cka_of_minus_the_distances",
    ),
    "feature form of CKA is Gram form": ("test_feature_form_of_cka_equals_gram_form",),
    "shape(α=1) is Procrustes": ("test_shape_without_whitening_is_angular_procrustes",),
    "a rotated copy is the same": ("test_a_rotated_copy_is_the_same_representation",),
    "arccos CKA is a metric": ("test_the_arccosine_of_cka_is_a_metric",),
    "CKA and CCA are mean alignments of decoders": (
        "test_cka_is_the_mean_alignment_of_strongly_penalised_decoders",
        "test_cca_is_the_mean_alignment_of_least_squares_decoders",
    ),
    "Procrustes bounds the distance of decoders": (
        "test_procrustes_distance_bounds_the_mean_distance_of_decoders_on_both_sides",
    ),
    "a small Procrustes angle implies a high CKA, not conversely": (
        "test_a_small_procrustes_angle_implies_a_high_cka",
        "test_a_high_cka_does_not_imply_a_small_procrustes_angle",
    ),
}


def defined():
    trees = (ast.parse(path.read_text()) for path in Path(__file__).parent.glob("test_*.py"))
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_measure_of_representations_has_an_oracle():
    assert set(ORACLES) == set(PROBES)


def test_every_measure_of_networks_has_an_oracle():
    from probes.functional import FUNCTIONAL

    assert set(FUNCTIONAL_ORACLES) == set(FUNCTIONAL)


@pytest.mark.parametrize("table", [ORACLES, FUNCTIONAL_ORACLES, IDENTITIES])
def test_the_tests_that_are_named_exist(table):
    named = {name for names in table.values() for name in names}
    assert not named - defined()
