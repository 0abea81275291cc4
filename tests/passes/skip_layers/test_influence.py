"""Cosines of what goes into a layer and what comes out."""

from __future__ import annotations

import numpy as np
import pytest

from optc.passes.skip_layers._influence import token_cosines

RNG = np.random.default_rng(0)


def test_the_same_vectors_have_an_angle() -> None:
    """Rounding puts some products a bit above 1, of which there is no arccosine."""
    x = RNG.standard_normal((1, 2000, 7)).astype(np.float32)
    for factor in (3.0, -3.0):
        cosines = token_cosines(x, factor * x)
        assert np.isfinite(np.arccos(cosines)).all()
        assert cosines == pytest.approx(np.sign(factor), abs=1e-12)


def test_a_vector_of_zeros_counts_as_half_alike() -> None:
    assert token_cosines(np.zeros((1, 1, 3)), np.ones((1, 1, 3))).tolist() == [[0.5]]
