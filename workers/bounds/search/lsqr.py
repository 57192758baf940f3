"""LSQR (Paige & Saunders 1982) for many least-squares problems at once, each with its own stopping.

All problems advance together on the device; which of them have converged is asked of it only now and then, and a
problem that has converged no longer changes meanwhile. When many are done, the others go on in a smaller batch.
"""

from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

_CHECK_EVERY = 10  # iterations between two looks at the device: a look costs a round trip
_BLOCK = 32  # basis vectors per allocation


class LinearMap(Protocol):
    """Independent linear maps, one per row of the batch."""

    def matvec(self, v: Tensor) -> Tensor:
        """Map ``(m, p)`` to ``(m, q)``."""
        ...

    def rmatvec(self, u: Tensor) -> Tensor:
        """Map ``(m, q)`` to ``(m, p)`` by the transposes."""
        ...

    def restrict(self, rows: Tensor) -> Self:
        """Keep the maps of some rows, ``(k,)`` int64."""
        ...


class LsqrSolution(NamedTuple):
    """Solutions of ``m`` problems, and how each was reached."""

    x: Tensor  # (m, p)
    iterations: Tensor  # (m,) int64
    residual: Tensor  # (m,) float64, |A x - b| / |b| as LSQR's recurrence has it


def lsqr(
    linear_map: LinearMap,
    b: Tensor,
    *,
    atol: Tensor,
    btol: float = 1e-6,
    condition_limit: float = 1e8,
    max_iterations: int,
    basis_size: int = 256,
) -> LsqrSolution:
    """Minimise ``|A x - b|`` for every row of the batch, from zero, with the stopping rules of the 1982 paper.

    Every new right Lanczos vector is made orthogonal to the first ``basis_size`` ones. In exact arithmetic that
    changes nothing; in floating point it keeps LSQR from finding the large singular values again and again, so that
    a problem of rank r ends within about r iterations.

    Args:
        linear_map: the maps A.
        b: right-hand sides ``(m, q)``; its dtype is the working precision.
        atol: ``(m,)`` relative accuracy of A; stops at ``|A'r| <= atol |A| |r|``.
        btol: relative accuracy of b; stops at ``|r| <= btol |b| + atol |A| |x|``.
        condition_limit: stops once the condition number of A is estimated above it.
        max_iterations: stops unconverged after that many.
        basis_size: number of right Lanczos vectors kept.

    Returns:
        One solution per row; a row does not depend on the other rows beyond rounding.
    """
    state = _State(linear_map, b, atol.double(), btol, condition_limit, basis_size)
    m, p = state.v.shape
    x = state.v.new_zeros((m, p))
    iterations = torch.zeros(m, dtype=torch.int64, device=b.device)
    residual = torch.ones(m, dtype=torch.float64, device=b.device)
    rows = torch.arange(m, device=b.device)
    for iteration in range(1, max_iterations + 1):
        state.step()
        if iteration % _CHECK_EVERY == 0 or iteration == max_iterations:
            running = state.running.nonzero().squeeze(1)
            if iteration < max_iterations and 2 * len(running) > len(rows):
                continue
            x[rows], iterations[rows], residual[rows] = state.x, state.iterations, state.residual
            if len(running) == 0 or iteration == max_iterations:
                break
            state.restrict(running)
            rows = rows[running]
    return LsqrSolution(x, iterations, residual)


class _State:
    """Golub-Kahan bidiagonalisation and QR factors of all rows; scalars ``(m,)`` float64, vectors in b's dtype."""

    def __init__(
        self,
        linear_map: LinearMap,
        b: Tensor,
        atol: Tensor,
        btol: float,
        condition_limit: float,
        basis_size: int,
    ) -> None:
        self.linear_map, self.atol, self.btol, self.condition_limit = linear_map, atol, btol, condition_limit
        self.u, self.b_norm = _normalise(b.clone())
        self.v, self.alpha = _normalise(linear_map.rmatvec(self.u).clone())
        self.w = self.v.clone()
        self.x = torch.zeros_like(self.v)
        self.basis = _Basis(basis_size)
        self.basis.append(self.v)
        self.phi_bar, self.rho_bar = self.b_norm.clone(), self.alpha.clone()
        zero = torch.zeros_like(self.alpha)
        self.a_norm2, self.d_norm2, self.x_norm2, self.z, self.sn2 = (zero.clone() for _ in range(5))
        self.cs2 = zero - 1
        self.iterations = zero.to(torch.int64)
        self.residual = torch.where(self.b_norm > 0, 1.0, zero)
        self.running = (self.b_norm > 0) & (self.alpha > 0)

    def step(self) -> None:
        alpha = self.alpha
        u = self.linear_map.matvec(self.v)
        self.u, beta = _normalise(_axpy(u, -alpha, self.u))
        v = _axpy(self.linear_map.rmatvec(self.u), -beta, self.v)
        self.basis.project_out(v)
        self.v, self.alpha = _normalise(v)
        self.basis.append(self.v)
        self.a_norm2 += alpha.square() + beta.square()

        rho = torch.hypot(self.rho_bar, beta)
        c, s = _ratio(self.rho_bar, rho), _ratio(beta, rho)
        theta = s * self.alpha
        self.rho_bar = -c * self.alpha
        phi = c * self.phi_bar
        self.phi_bar = s * self.phi_bar
        self.d_norm2 += (_norm(self.w) * _ratio(torch.ones_like(rho), rho)).square()
        _axpy(self.x, torch.where(self.running, _ratio(phi, rho), 0.0), self.w)
        self.w = _axpy(self.v.clone(), -_ratio(theta, rho), self.w)
        self._stop(rho, theta, phi, s)

    def _stop(self, rho: Tensor, theta: Tensor, phi: Tensor, s: Tensor) -> None:
        delta, gamma_bar = self.sn2 * rho, -self.cs2 * rho
        rhs = phi - delta * self.z
        x_norm = (self.x_norm2 + _ratio(rhs, gamma_bar).square()).sqrt()
        gamma = torch.hypot(gamma_bar, theta)
        self.cs2, self.sn2, self.z = _ratio(gamma_bar, gamma), _ratio(theta, gamma), _ratio(rhs, gamma)
        self.x_norm2 += self.z.square()

        a_norm = self.a_norm2.sqrt()
        residual = self.phi_bar / self.b_norm
        gradient = _ratio(self.alpha * (s * phi).abs(), a_norm * self.phi_bar)
        self.iterations += self.running
        self.residual = torch.where(self.running, residual, self.residual)
        self.running &= (
            (residual > self.btol + self.atol * a_norm * x_norm / self.b_norm)
            & (gradient > self.atol)
            & (a_norm * self.d_norm2.sqrt() < self.condition_limit)
        )

    def restrict(self, rows: Tensor) -> None:
        self.linear_map = self.linear_map.restrict(rows)
        self.basis.restrict(rows)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows])


class _Basis:
    """The first right Lanczos vectors of every row, in blocks ``(m, _BLOCK, p)``."""

    def __init__(self, size: int) -> None:
        self.size, self.count, self.blocks = size, 0, list[Tensor]()

    def append(self, v: Tensor) -> None:
        if self.count >= self.size:
            return
        if self.count % _BLOCK == 0:
            self.blocks.append(v.new_zeros((v.shape[0], _BLOCK, v.shape[1])))
        self.blocks[-1][:, self.count % _BLOCK] = v
        self.count += 1

    def project_out(self, v: Tensor) -> None:
        for number, block in enumerate(self.blocks):
            filled = block[:, : self.count - number * _BLOCK]
            overlaps = torch.bmm(filled, v.unsqueeze(2))
            v.unsqueeze(1).baddbmm_(overlaps.mT, filled, alpha=-1)

    def restrict(self, rows: Tensor) -> None:
        self.blocks = [block[rows] for block in self.blocks]


def _norm(v: Tensor) -> Tensor:
    return torch.linalg.vector_norm(v, dim=1).double()


def _normalise(v: Tensor) -> tuple[Tensor, Tensor]:
    norm = _norm(v)
    return v.mul_(_ratio(torch.ones_like(norm), norm).to(v.dtype)[:, None]), norm


def _axpy(y: Tensor, a: Tensor, x: Tensor) -> Tensor:
    return y.addcmul_(a.to(y.dtype)[:, None], x)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where b is 0: there the recurrence has ended and nothing may become NaN."""
    return torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b))
