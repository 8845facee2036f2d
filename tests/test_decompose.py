"""One SVD per site, of which every rank is a slice."""

import pytest
import torch
from toy import close

from espnet_shrink.methods.lowrank.decompose import RIDGE, decompose
from espnet_shrink.methods.lowrank.decompositions import decompose_sites, factors_of
from espnet_shrink.methods.lowrank.site import Site
from espnet_shrink.plan import DENSE, Plan

SHAPES = [(12, 7), (7, 12), (9, 9), (40, 1)]


def weight_and_inputs(shape, count=500, seed=0):
    """A weight (out, in), and inputs (in, n) of very uneven directions, both float64."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator, dtype=torch.float64)
    mix = torch.randn(shape[1], shape[1], generator=generator, dtype=torch.float64)
    scales = torch.logspace(0, -2, shape[1], dtype=torch.float64)
    X = (
        mix
        @ torch.diag(scales)
        @ torch.randn(shape[1], count, generator=generator, dtype=torch.float64)
    )
    return weight, X


def output_error(weight, product, X):
    """E ||W x - W' x||^2."""
    return float((((weight - product) @ X) ** 2).sum() / X.shape[1])


@pytest.mark.parametrize("whitened", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_full_rank_is_the_identity(shape, whitened):
    weight, X = weight_and_inputs(shape)
    weight = weight.float()
    found = decompose(weight, X @ X.T / X.shape[1] if whitened else None)
    close(found.product(min(shape)), weight)


@pytest.mark.parametrize("shape", SHAPES)
def test_plain_is_the_truncated_svd_and_loses_the_dropped_energy(shape):
    weight, _ = weight_and_inputs(shape)
    found = decompose(weight)
    u, s, vt = torch.linalg.svd(weight, full_matrices=False)
    close(found.singular_values, s.float())
    for rank in range(1, min(shape) + 1):
        close(found.product(rank), u[:, :rank] @ torch.diag(s[:rank]) @ vt[:rank])
        lost = float(((weight - found.product(rank)) ** 2).sum())
        assert lost == pytest.approx(float(found.energies[rank:].sum()), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_whitened_loses_the_dropped_energy_on_its_inputs_and_never_more_than_plain(shape):
    weight, X = weight_and_inputs(shape)
    moment = X @ X.T / X.shape[1]
    plain, found = decompose(weight), decompose(weight, moment)
    ridge = RIDGE * float(moment.diagonal().mean())
    for rank in range(1, min(shape) + 1):
        difference = weight - found.product(rank)
        lost = output_error(weight, found.product(rank), X)
        with_ridge = lost + ridge * float((difference**2).sum())
        dropped = float(found.energies[rank:].sum())
        assert with_ridge == pytest.approx(dropped, rel=1e-4, abs=1e-9)
        # Whitened is best for the inputs with the ridge, so only the ridge can make it lose.
        slack = ridge * float(((weight - plain.product(rank)) ** 2).sum())
        assert lost <= output_error(weight, plain.product(rank), X) + slack + 1e-9


def test_whitened_clearly_beats_plain_where_inputs_are_uneven():
    weight, X = weight_and_inputs((30, 20))
    plain, found = decompose(weight), decompose(weight, X @ X.T / X.shape[1])
    lost, lost_by_plain = (output_error(weight, d.product(5), X) for d in (found, plain))
    assert lost < 0.2 * lost_by_plain


def test_whitening_by_even_inputs_is_plain():
    weight, _ = weight_and_inputs((12, 7))
    close(decompose(weight, 3.0 * torch.eye(7)).product(3), decompose(weight).product(3))


def test_slices_of_one_decomposition_are_the_separate_ones():
    weight, X = weight_and_inputs((12, 7))
    moment = X @ X.T / X.shape[1]
    once = decompose(weight, moment)
    for rank in range(1, 8):
        u, v = once.factors(rank)
        assert u.shape == (12, rank) and v.shape == (rank, 7)
        separate = decompose(weight, moment).factors(rank)
        close((u, v), separate, 1e-12)
        close(once.product(rank), u @ v, 1e-12)


def test_rank_deficient_moments_are_exact_on_what_they_saw():
    weight, X = weight_and_inputs((12, 7))
    seen = X[:, :3]  # three inputs span three of seven dimensions
    found = decompose(weight, seen @ seen.T / 3)
    assert torch.isfinite(found.U).all() and torch.isfinite(found.V).all()
    close(found.product(7), weight)
    scale = output_error(weight, torch.zeros_like(weight), seen)
    assert output_error(weight, found.product(3), seen) < 1e-3 * scale


def test_a_site_whose_inputs_were_all_zero_still_decomposes():
    weight, _ = weight_and_inputs((12, 7))
    close(decompose(weight.float(), torch.zeros(7, 7)).product(7), weight.float())


def test_moments_rounded_to_float32_stay_positive_definite():
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(400, 1, generator=generator)
    found = decompose(torch.randn(8, 400, generator=generator), direction @ direction.T)
    assert torch.isfinite(found.V).all()


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float64, 1e-9)]
)
def test_factors_have_the_type_of_the_weight(dtype, tolerance):
    weight, X = weight_and_inputs((12, 7))
    weight = weight.to(dtype)
    for moment in (None, (X @ X.T / X.shape[1]).float()):
        found = decompose(weight, moment)
        assert found.U.dtype == found.V.dtype == dtype
        close(found.product(7).double(), weight.double(), tolerance)


def test_a_site_that_the_data_never_reached_is_decomposed_plainly():
    weight, X = weight_and_inputs((12, 7))
    sites = [Site("seen", (12, 7), "linear"), Site("unseen", (12, 7), "linear")]
    weights = {"seen": weight, "unseen": weight}
    found = decompose_sites(weights, sites, {"seen": X @ X.T})
    close(found["seen"].product(3), decompose(weight, X @ X.T).product(3))
    close(found["unseen"].product(3), decompose(weight).product(3))


def test_the_kernel_of_a_pointwise_convolution_is_a_matrix():
    weight, X = weight_and_inputs((12, 7))
    site = Site("conv", (12, 7), "pointwise_conv")
    for kernel in (weight[..., None], weight[..., None, None]):
        found = decompose_sites({"conv": kernel}, [site], {"conv": X @ X.T})["conv"]
        close(found.product(3), decompose(weight, X @ X.T).product(3), 1e-12)


def test_a_plan_takes_its_factors_from_the_decompositions():
    weight, _ = weight_and_inputs((12, 7))
    sites = [Site("a", (12, 7), "linear"), Site("b", (12, 7), "linear")]
    parts = decompose_sites({"a": weight, "b": 2 * weight}, sites, None)
    factors = factors_of(Plan({"a": DENSE, "b": 2}), parts)
    assert factors.keys() == {"b"}
    close(factors["b"][0] @ factors["b"][1], 2 * parts["a"].product(2))
