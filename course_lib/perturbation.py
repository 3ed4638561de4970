"""From hydrogen to a hydrogen-like ion: perturbation theory small enough to be checked by hand.

Atomic units throughout: energies in hartree, lengths in bohr. The system that is solved exactly is hydrogen, the
new one has the nuclear charge Z = 1 + lambda, so that the perturbation is V = -lambda / r. Only s states couple to
the ground state; with u(r) = r R(r) their Hamiltonian is -1/2 d^2/dr^2 - Z/r on r > 0, and u(0) = 0.

See D. J. Griffiths and D. F. Schroeter, Introduction to Quantum Mechanics (2018), chapters 4, 7 and 8.
"""

from __future__ import annotations

import numpy as np

# ---- closed forms ----------------------------------------------------------------------------------


def exact_energy(charge: float | np.ndarray, n: int = 1) -> float | np.ndarray:
    """Energy -Z^2 / (2 n^2) of a hydrogen-like ion.

    Parameters
    ----------
    charge : float or array
        Nuclear charge Z.
    n : int
        Principal quantum number, from 1.
    """
    if n < 1:
        raise ValueError(f"the principal quantum number starts at 1, not {n}; n=1 is the ground state")
    return -np.square(charge) / (2 * n**2)


def ground_state(radius: np.ndarray, charge: float = 1.0) -> np.ndarray:
    """Radial ground state u(r) = 2 Z^(3/2) r exp(-Z r), normalised so that its square integrates to one over r."""
    return 2 * _positive("charge", charge) ** 1.5 * radius * np.exp(-charge * radius)


def ground_state_overlap(charge: float | np.ndarray, other: float = 1.0) -> float | np.ndarray:
    """Inner product of the ground states of two hydrogen-like ions, 8 (Z Z')^(3/2) / (Z + Z')^3.

    Parameters
    ----------
    charge : float or array
        Nuclear charge Z of the one, positive.
    other : float
        Nuclear charge Z' of the other; 1 is hydrogen.
    """
    _positive("charge", np.min(charge))
    return 8 * (charge * _positive("other", other)) ** 1.5 / (charge + other) ** 3


def bound_state_coupling(n: int | np.ndarray) -> float | np.ndarray:
    """Matrix element of 1/r between the 1s and the ns state of hydrogen.

    4 sqrt(n) (n-1)^(n-1) / (n+1)^(n+1), from the Laplace transform of a Laguerre polynomial; 1 for n = 1.
    """
    n = np.asarray(n, dtype=float)
    if np.any(n < 1):
        raise ValueError("the principal quantum number starts at 1")
    # by logarithms, since n^n overflows beyond n = 143; log(max(n-1, 1)) makes 0^0 = 1
    return 4 * np.sqrt(n) * np.exp((n - 1) * np.log(np.maximum(n - 1, 1)) - (n + 1) * np.log(n + 1))


def second_order_from_bound_states(max_n: int) -> float:
    """Coefficient of lambda^2 in the ground-state energy, summed over the bound states 2s to ``max_n`` s alone.

    The sum over intermediate states has to run over a complete set. The bound states are not one: what is
    missing from the exact -1/2, however large ``max_n``, is the contribution of the continuum.
    """
    n = np.arange(2, max_n + 1)
    return -float(np.sum(bound_state_coupling(n) ** 2 / (exact_energy(1.0, 1) * (1 / n**2 - 1))))


# ---- a complete discrete basis ---------------------------------------------------------------------
#
# phi_k(r) = N_k r exp(-zeta r) L_k^(2)(2 zeta r), k = 0, 1, ...: orthonormal in r, complete, all of it normalisable.
# It spans the same space as the Sturmian functions r exp(-zeta r) L_k^(1)(2 zeta r), each of which solves the
# Schroedinger equation of a nucleus of charge zeta (k + 1) at the energy -zeta^2/2. Since L_k^(2) is the sum of
# L_0^(1) ... L_k^(1), both matrices below have closed forms. phi_0 at zeta = 1 is the hydrogen ground state.


def radial_basis(radius: np.ndarray, size: int, exponent: float = 1.0) -> np.ndarray:
    """Values of the first ``size`` basis functions.

    Parameters
    ----------
    radius : array
        Shape (R,), in bohr.
    size : int
        Number of functions.
    exponent : float
        Decay zeta of every one of them.

    Returns
    -------
    array
        Shape (size, R).
    """
    zeta, x = _positive("exponent", exponent), 2 * exponent * np.asarray(radius, dtype=float)
    laguerre = [np.ones_like(x), 3 - x]  # L_0^(2), L_1^(2), and then the three-term recurrence
    for k in range(1, size - 1):
        laguerre.append(((2 * k + 3 - x) * laguerre[k] - (k + 2) * laguerre[k - 1]) / (k + 1))
    k = np.arange(size)[:, None]
    norm = (2 * zeta) ** 1.5 / np.sqrt((k + 1) * (k + 2))
    return norm * radius * np.exp(-x / 2) * np.array(laguerre[:size])


def _coupling(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The smaller index k of each pair, and sqrt((k+1)(k+2) / ((m+1)(m+2))) with the larger index m."""
    if size < 1:
        raise ValueError(f"a basis needs at least one function, not {size}")
    index = np.arange(size)
    lower, upper = np.minimum.outer(index, index), np.maximum.outer(index, index)
    return lower, np.sqrt((lower + 1) * (lower + 2) / ((upper + 1) * (upper + 2)))


def inverse_radius_matrix(size: int, exponent: float = 1.0) -> np.ndarray:
    """Matrix of 1/r in the basis of :func:`radial_basis`, shape (size, size)."""
    return _positive("exponent", exponent) * _coupling(size)[1]


def kinetic_matrix(size: int, exponent: float = 1.0) -> np.ndarray:
    """Matrix of -1/2 d^2/dr^2 in the basis of :func:`radial_basis`, shape (size, size)."""
    lower, ratio = _coupling(size)
    return _positive("exponent", exponent) ** 2 * ((2 * lower + 3) / 3 * ratio - np.eye(size) / 2)


def hamiltonian(charge: float, size: int, exponent: float = 1.0) -> np.ndarray:
    """Matrix of -1/2 d^2/dr^2 - Z/r in the basis of :func:`radial_basis`, shape (size, size)."""
    return kinetic_matrix(size, exponent) - charge * inverse_radius_matrix(size, exponent)


# ---- perturbation theory ---------------------------------------------------------------------------


def energy_orders(unperturbed: np.ndarray, perturbation: np.ndarray, max_order: int) -> np.ndarray:
    """Rayleigh-Schroedinger series of the lowest eigenvalue of ``unperturbed + x perturbation``.

    Parameters
    ----------
    unperturbed, perturbation : array
        Symmetric matrices in one orthonormal basis; the lowest level of the first is not degenerate.
    max_order : int
        Highest power of x.

    Returns
    -------
    array
        Shape (max_order + 1,): the coefficient of each power of x.
    """
    levels, states = np.linalg.eigh(unperturbed)
    if len(levels) > 1 and np.isclose(levels[0], levels[1]):
        raise ValueError("the lowest level is degenerate; diagonalise the perturbation within it first")
    v = states.T @ perturbation @ states
    # psi_k is the k-th correction of the state, orthogonal to psi_0 (intermediate normalisation)
    psi = [np.eye(len(levels))[0]]
    energy = [levels[0]]
    for order in range(1, max_order + 1):
        energy.append(v[0] @ psi[order - 1])
        residue = -v @ psi[order - 1] + sum(energy[j] * psi[order - j] for j in range(1, order))
        correction = np.zeros(len(levels))
        correction[1:] = residue[1:] / (levels[1:] - levels[0])
        psi.append(correction)
    return np.array(energy)


def second_order_terms(size: int, exponent: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Terms of the second-order sum for V = -lambda / r, over the states of hydrogen within a finite basis.

    Parameters
    ----------
    size : int
        Number of basis functions, at least 2.
    exponent : float
        Their decay. At 1 the ground state is exact, and two functions give the whole sum.

    Returns
    -------
    energies, terms : array
        Shape (size - 1,): energy of each excited state, and its term. States of positive energy stand for the
        continuum. The terms add up to the coefficient of lambda^2, which is -1/2 in a complete basis.
    """
    if size < 2:
        raise ValueError(f"with {size} function there is no excited state to sum over; take size=2 or more")
    levels, states = np.linalg.eigh(hamiltonian(1.0, size, exponent))
    coupling = states.T @ inverse_radius_matrix(size, exponent) @ states[:, 0]
    return levels[1:], -(coupling[1:] ** 2) / (levels[1:] - levels[0])


# ---- variational descent ---------------------------------------------------------------------------


def rayleigh_quotient(matrix: np.ndarray, state: np.ndarray) -> float:
    """Expectation value of a symmetric matrix in a state, which need not be normalised."""
    return float(state @ matrix @ state / (state @ state))


def descend(matrix: np.ndarray, start: np.ndarray, *, rate: float, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Minimise the Rayleigh quotient by plain gradient descent.

    Parameters
    ----------
    matrix : array
        Symmetric Hamiltonian, shape (N, N).
    start : array
        Coefficients of the first state, shape (N,), not zero.
    rate : float
        Learning rate, below 1 / (highest - lowest eigenvalue): from there on the energy need not go down.
    num_steps : int
        Steps to take.

    Returns
    -------
    energies : array
        Shape (num_steps + 1,): energy before each step and after the last.
    state : array
        Shape (N,), normalised.

    Raises
    ------
    ValueError
        The start is zero, or the rate so large that the energy rose.
    """
    norm = np.linalg.norm(start)
    if norm == 0:
        raise ValueError("the start is the zero vector, which is no state; draw it at random instead")
    state, energies = start / norm, []
    for _ in range(num_steps):
        image = matrix @ state
        energies.append(state @ image)
        state = state - rate * 2 * (image - energies[-1] * state)  # the gradient of the quotient at norm one
        state = state / np.linalg.norm(state)
    energies = np.array([*energies, state @ matrix @ state])
    if np.any(np.diff(energies) > 1e-9 * np.abs(energies).max()):
        raise ValueError(f"the energy rose during the descent; lower the rate, {rate} is too large for this matrix")
    return energies, state


def steps_to(energies: np.ndarray, target: float, tolerance: float) -> int:
    """Number of steps after which the energy is within ``tolerance`` of ``target``.

    Raises
    ------
    ValueError
        It never is; the message says how near it came.
    """
    near = np.flatnonzero(np.abs(np.asarray(energies) - target) <= tolerance)
    if len(near) == 0:
        gap = np.abs(np.asarray(energies) - target).min()
        raise ValueError(f"{len(energies) - 1} steps came within {gap:.2g} only, not {tolerance:g}; take more steps")
    return int(near[0])


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} must be positive, not {value}: otherwise there is no bound ground state")
    return value
