"""LSQR (Paige & Saunders 1982) for many least-squares problems at once, each with its own stopping.

All problems advance together on the device, which is asked only now and then which of them have converged; one that
has no longer changes. When half of them are done, the others go on in a smaller batch.
"""

from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor

BASIS_SIZE = 256
"""Right Lanczos vectors kept per problem: more than a solve of the networks here takes iterations."""
_CHECK_EVERY = 5
"""Iterations between two looks at the device: a look costs a round trip."""
_BLOCK = 32
"""Lanczos vectors per allocation."""


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
    basis_size: int = BASIS_SIZE,
) -> LsqrSolution:
    """Minimise ``|A x - b|`` for every row of the batch, from zero, with the stopping rules of the 1982 paper.

    Every new right Lanczos vector is made orthogonal to the first ``basis_size`` ones. In exact arithmetic that
    changes nothing. In floating point it keeps LSQR from finding the large singular values again and again (a problem
    of rank r ends within about r iterations), keeps the estimate of ``|A|`` from growing past it, and keeps rounding,
    hence the make-up of the batch, from deciding the solution.

    Args:
        linear_map: the maps A.
        b: right-hand sides ``(m, q)``; its dtype is the working precision.
        atol: ``(m,)``, stops at ``|A'r| <= atol |A| |r|``, |A| being the Frobenius norm as far as it is seen.
        btol: stops at ``|r| <= btol |b| + atol |A| |x|``.
        condition_limit: stops once the condition number of A is estimated above it.
        max_iterations: stops unconverged after that many.
        basis_size: right Lanczos vectors kept.

    Returns:
        One solution per row; a row depends on the others by rounding alone.
    """
    state = _State(linear_map, b, atol.double(), (btol, condition_limit), basis_size)
    x = torch.zeros_like(state.x)
    iterations, residual = torch.zeros_like(state.iterations), torch.ones_like(state.residual)
    rows = torch.arange(len(b), device=b.device)
    for iteration in range(1, max_iterations + 1):
        state.step()
        last = iteration == max_iterations
        if not last and iteration % _CHECK_EVERY:
            continue
        running = state.running.nonzero().squeeze(1)
        if not last and 2 * len(running) > len(rows):
            continue
        x[rows], iterations[rows], residual[rows] = state.x, state.iterations, state.residual
        if last or len(running) == 0:
            break
        state.restrict(running)
        rows = rows[running]
    return LsqrSolution(x, iterations, residual)


class _State:
    """Golub-Kahan bidiagonalisation and its QR factors; vectors in b's dtype, scalars ``(m,)`` float64.

    Names are those of Paige & Saunders (1982), section 4, and of their algorithm's estimates in section 5.
    """

    def __init__(
        self, linear_map: LinearMap, b: Tensor, atol: Tensor, limits: tuple[float, float], basis_size: int
    ) -> None:
        self.linear_map, self.atol, self.limits = linear_map, atol, limits
        self.u, self.b_norm = _normalise(b.clone())
        self.v, self.alpha = _normalise(linear_map.rmatvec(self.u).clone())
        self.basis = _Basis(basis_size, self.v)
        self.w, self.x = self.v.clone(), torch.zeros_like(self.v)
        self.phi_bar, self.rho_bar = self.b_norm, self.alpha
        self.a_norm2 = self.d_norm2 = self.x_norm2 = self.z = self.sn2 = torch.zeros_like(self.alpha)
        self.cs2 = self.sn2 - 1
        self.iterations = torch.zeros_like(self.alpha, dtype=torch.int64)
        self.residual = torch.ones_like(self.alpha)
        self.running = (self.b_norm > 0) & (self.alpha > 0)

    def step(self) -> None:
        alpha = self.alpha
        self.u, beta = _normalise(_add(self.linear_map.matvec(self.v), -alpha, self.u))
        v = _add(self.linear_map.rmatvec(self.u), -beta, self.v)
        self.basis.project_out(v)
        self.v, self.alpha = _normalise(v)
        self.basis.append(self.v)
        self.a_norm2 = self.a_norm2 + alpha.square() + beta.square()

        rho = torch.hypot(self.rho_bar, beta)
        c, s = _ratio(self.rho_bar, rho), _ratio(beta, rho)
        theta = s * self.alpha
        phi = c * self.phi_bar
        self.rho_bar, self.phi_bar = -c * self.alpha, s * self.phi_bar
        self.d_norm2 = self.d_norm2 + _ratio(_norm(self.w), rho).square()
        _add(self.x, torch.where(self.running, _ratio(phi, rho), 0.0), self.w)
        self.w = _add(self.v.clone(), -_ratio(theta, rho), self.w)
        self._estimate_x_norm(rho, theta, phi)
        self._stop((s * phi).abs())

    def _estimate_x_norm(self, rho: Tensor, theta: Tensor, phi: Tensor) -> None:
        gamma_bar, rhs = -self.cs2 * rho, phi - self.sn2 * rho * self.z
        self.x_norm = (self.x_norm2 + _ratio(rhs, gamma_bar).square()).sqrt()
        gamma = torch.hypot(gamma_bar, theta)
        self.cs2, self.sn2, self.z = _ratio(gamma_bar, gamma), _ratio(theta, gamma), _ratio(rhs, gamma)
        self.x_norm2 = self.x_norm2 + self.z.square()

    def _stop(self, tau: Tensor) -> None:
        btol, condition_limit = self.limits
        a_norm, residual = self.a_norm2.sqrt(), self.phi_bar / self.b_norm
        self.iterations = self.iterations + self.running
        self.residual = torch.where(self.running, residual, self.residual)
        self.running = (
            self.running
            & (residual > btol + self.atol * a_norm * self.x_norm / self.b_norm)
            & (_ratio(self.alpha * tau, a_norm * self.phi_bar) > self.atol)
            & (a_norm * self.d_norm2.sqrt() < condition_limit)
        )

    def restrict(self, rows: Tensor) -> None:
        self.linear_map = self.linear_map.restrict(rows)
        self.basis.restrict(rows)
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[rows])


class _Basis:
    """The first right Lanczos vectors of every row, in blocks ``(m, _BLOCK, p)``."""

    def __init__(self, size: int, v: Tensor) -> None:
        self.size, self.count, self.blocks = size, 0, list[Tensor]()
        self.append(v)

    def append(self, v: Tensor) -> None:
        if self.count == self.size:
            return
        if self.count % _BLOCK == 0:
            self.blocks.append(v.new_empty((len(v), _BLOCK, v.shape[1])))
        self.blocks[-1][:, self.count % _BLOCK] = v
        self.count += 1

    def project_out(self, v: Tensor) -> None:
        for number, block in enumerate(self.blocks):
            vectors = block[:, : self.count - number * _BLOCK]
            overlaps = torch.bmm(v.unsqueeze(1), vectors.mT)  # 3 times faster on a CPU than vectors @ v
            v.unsqueeze(1).baddbmm_(overlaps, vectors, alpha=-1)

    def restrict(self, rows: Tensor) -> None:
        self.blocks = [block[rows] for block in self.blocks]


def _norm(v: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(v, dim=1)
    return norm.double()


def _normalise(v: Tensor) -> tuple[Tensor, Tensor]:
    norm = _norm(v)
    return v.mul_(_ratio(torch.ones_like(norm), norm).to(v.dtype)[:, None]), norm


def _add(y: Tensor, a: Tensor, x: Tensor) -> Tensor:
    return y.addcmul_(a.to(y.dtype)[:, None], x)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b, and 0 where b is 0: there the recurrence has ended, and nothing may become NaN."""
    return torch.where(b == 0, 0.0, a / torch.where(b == 0, 1.0, b))
