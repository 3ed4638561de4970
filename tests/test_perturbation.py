"""Each statement of physics in course_lib.perturbation against a closed form or an independent quadrature."""

import numpy as np
import pytest

from course_lib import perturbation as pt

# Gauss-Legendre on 0 to 60 bohr: nothing in it knows of Laguerre polynomials
NODES, WEIGHTS = np.polynomial.legendre.leggauss(300)
RADIUS, WEIGHTS = 30 * (NODES + 1), 30 * WEIGHTS


def integrate(values: np.ndarray) -> np.ndarray:
    """Integral over the radius, along the last axis."""
    return values @ WEIGHTS


def slope(function, *arguments, width: float = 1e-4) -> np.ndarray:
    """Central difference of ``function(radius, *arguments)`` on RADIUS."""
    return (function(RADIUS + width, *arguments) - function(RADIUS - width, *arguments)) / (2 * width)


# ---- closed forms


@pytest.mark.parametrize(("charge", "n", "energy"), [(1, 1, -0.5), (1, 2, -0.125), (2, 1, -2.0), (3, 3, -0.5)])
def test_exact_energies(charge, n, energy):
    assert pt.exact_energy(charge, n) == energy


@pytest.mark.parametrize("charge", [0.5, 1.0, 1.7, 3.0])
def test_ground_state_is_normalised_and_has_its_energy(charge):
    u = pt.ground_state(RADIUS, charge)
    assert integrate(u**2) == pytest.approx(1, abs=1e-8)
    energy = integrate(slope(pt.ground_state, charge) ** 2) / 2 - charge * integrate(u**2 / RADIUS)
    assert energy == pytest.approx(-(charge**2) / 2, abs=1e-6)


@pytest.mark.parametrize("charge", [0.3, 1.0, 1.5, 2.0, 4.0])
def test_overlap_against_quadrature(charge):
    numerical = integrate(pt.ground_state(RADIUS, 1.0) * pt.ground_state(RADIUS, charge))
    assert pt.ground_state_overlap(charge) == pytest.approx(numerical, abs=1e-8)


def test_overlap_is_one_only_for_the_same_charge_and_symmetric():
    assert pt.ground_state_overlap(1.0) == 1
    assert pt.ground_state_overlap(2.0, 3.0) == pytest.approx(pt.ground_state_overlap(3.0, 2.0))
    assert np.all(np.diff(pt.ground_state_overlap(np.linspace(1, 5, 50))) < 0)


# ---- the basis


@pytest.mark.parametrize("exponent", [0.6, 1.0, 1.3])
def test_basis_is_orthonormal_and_its_matrices_agree_with_quadrature(exponent):
    basis = pt.radial_basis(RADIUS, 6, exponent)
    np.testing.assert_allclose(integrate(basis[:, None] * basis), np.eye(6), atol=1e-9)
    inverse = integrate(basis[:, None] * basis / RADIUS)
    np.testing.assert_allclose(inverse, pt.inverse_radius_matrix(6, exponent), atol=1e-9)
    slopes = slope(pt.radial_basis, 6, exponent)
    np.testing.assert_allclose(integrate(slopes[:, None] * slopes) / 2, pt.kinetic_matrix(6, exponent), atol=1e-6)


def test_first_basis_function_is_the_hydrogen_ground_state():
    np.testing.assert_allclose(pt.radial_basis(RADIUS, 1)[0], pt.ground_state(RADIUS), atol=1e-14)


def test_basis_gives_the_bound_levels():
    levels = np.linalg.eigvalsh(pt.hamiltonian(1.0, 40, 0.4))
    np.testing.assert_allclose(levels[:4], [pt.exact_energy(1, n) for n in (1, 2, 3, 4)], atol=1e-6)


# ---- perturbation theory


def test_first_order_is_the_expectation_value_of_the_perturbation():
    hydrogen = np.eye(5)[0]
    assert pt.rayleigh_quotient(pt.inverse_radius_matrix(5), hydrogen) == 1  # <1/r> = 1, so E1 = -lambda


def test_series_ends_at_second_order():
    orders = pt.energy_orders(pt.hamiltonian(1.0, 12), -pt.inverse_radius_matrix(12), 8)
    np.testing.assert_allclose(orders, [-0.5, -1, -0.5, 0, 0, 0, 0, 0, 0], atol=1e-9)


def test_series_of_a_two_level_system():
    # lowest level of [[0, x], [x, 1]]: (1 - sqrt(1 + 4 x^2)) / 2 = -x^2 + x^4 - 2 x^6 + ...
    orders = pt.energy_orders(np.diag([0.0, 1.0]), np.array([[0.0, 1.0], [1.0, 0.0]]), 6)
    np.testing.assert_allclose(orders, [0, 0, -1, 0, 1, 0, -2], atol=1e-12)


def test_second_order_needs_the_continuum():
    energies, terms = pt.second_order_terms(60, 1.0)
    assert terms.sum() == pytest.approx(-0.5, abs=1e-10)
    bound = pt.second_order_from_bound_states(2000)
    # the states of negative energy are the bound ones, the others stand for the continuum
    assert terms[energies < 0].sum() == pytest.approx(bound, abs=2e-3)
    assert bound > -0.25  # less than half of it


def test_two_functions_hold_the_whole_second_order():
    # the first-order state is (3/2 - r) times the ground state: a polynomial of degree one
    assert pt.second_order_terms(2, 1.0)[1].sum() == pytest.approx(-0.5, abs=1e-14)
    assert pt.second_order_terms(2, 0.7)[1].sum() > -0.5 + 1e-2
    assert pt.second_order_terms(30, 0.7)[1].sum() == pytest.approx(-0.5, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_bound_state_coupling_against_the_basis(n):
    _, states = np.linalg.eigh(pt.hamiltonian(1.0, 60, 0.5))
    coupling = states[:, 0] @ pt.inverse_radius_matrix(60, 0.5) @ states[:, n - 1]
    assert abs(coupling) == pytest.approx(pt.bound_state_coupling(n), abs=1e-6)


# ---- variational principle


@pytest.mark.parametrize("charge", [1.0, 2.0, 3.0])
def test_virial_theorem_in_the_ground_state(charge):
    state = np.linalg.eigh(pt.hamiltonian(charge, 24))[1][:, 0]
    kinetic = pt.rayleigh_quotient(pt.kinetic_matrix(24), state)
    potential = -charge * pt.rayleigh_quotient(pt.inverse_radius_matrix(24), state)
    assert potential == pytest.approx(-2 * kinetic, abs=1e-6)


@pytest.mark.parametrize("charge", [0.5, 1.0, 2.0, 3.0])
def test_no_state_lies_below_the_exact_energy(charge):
    generator = np.random.default_rng(0)
    matrix = pt.hamiltonian(charge, 10)
    for _ in range(200):
        assert pt.rayleigh_quotient(matrix, generator.normal(size=10)) >= pt.exact_energy(charge) - 1e-12


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_descent_goes_down_to_the_exact_energy(seed):
    matrix = pt.hamiltonian(2.0, 10)
    start = np.eye(10)[0] if seed is None else np.random.default_rng(seed).normal(size=10)
    energies, state = pt.descend(matrix, start, rate=0.5 / np.ptp(np.linalg.eigvalsh(matrix)), num_steps=800)
    assert np.all(np.diff(energies) <= 1e-12)
    assert np.all(energies >= -2 - 1e-12)
    assert energies[-1] == pytest.approx(-2, abs=1e-6)
    overlap = pt.ground_state_overlap(2.0)
    assert abs(state[0]) == pytest.approx(overlap, abs=1e-3)  # its hydrogen component


def test_hydrogen_in_the_new_hamiltonian_is_zeroth_plus_first_order():
    for shift in (0.1, 1.0, 2.0):
        assert pt.rayleigh_quotient(pt.hamiltonian(1 + shift, 6), np.eye(6)[0]) == pytest.approx(-0.5 - shift)


# ---- errors say the safe way on


def test_errors():
    with pytest.raises(ValueError, match="n=1 is the ground state"):
        pt.exact_energy(1.0, 0)
    with pytest.raises(ValueError, match="starts at 1"):
        pt.bound_state_coupling(0)
    for wrong in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="must be positive"):
            pt.ground_state_overlap(wrong)
        with pytest.raises(ValueError, match="must be positive"):
            pt.kinetic_matrix(3, wrong)
    with pytest.raises(ValueError, match="at least one function"):
        pt.hamiltonian(1.0, 0)
    with pytest.raises(ValueError, match="size=2 or more"):
        pt.second_order_terms(1)
    with pytest.raises(ValueError, match="degenerate"):
        pt.energy_orders(np.eye(3), np.eye(3), 2)
    with pytest.raises(ValueError, match="zero vector"):
        pt.descend(np.eye(3), np.zeros(3), rate=0.1, num_steps=1)
    with pytest.raises(ValueError, match="lower the rate"):
        pt.descend(np.diag([0.0, 100.0]), np.array([1.0, 0.1]), rate=0.5, num_steps=5)
    with pytest.raises(ValueError, match="take more steps"):
        pt.steps_to(np.array([1.0, 0.5]), 0.0, 0.1)
    assert pt.steps_to(np.array([1.0, 0.5, 0.05]), 0.0, 0.1) == 2
