"""What solving with many penalties needs of a matrix: half of the way to its eigenvalues."""

from __future__ import annotations

import numpy as np

__all__ = ["Tridiagonal"]

# A penalty below this share of the matrix's largest entry is rounding errors.
_NEGLIGIBLE = {np.dtype(np.float32): 1e-6, np.dtype(np.float64): 1e-12}


class Tridiagonal:
    """A positive semidefinite matrix S as `Q T Q^T`, Q orthogonal and T tridiagonal.

    `S + penalty` is then solved with in as many steps as it has rows, whatever the penalty, and
    the finding of T takes a quarter of the time that eigenvectors would. Source: Eldén, "Algorithms
    for the regularization of ill-conditioned least squares problems", BIT 17, 1977.

    Args:
        matrix: S, `(r, r)`, float32 or float64; overwritten.
    """

    def __init__(self, matrix: np.ndarray) -> None:
        from scipy.linalg import get_lapack_funcs

        self._dtype = matrix.dtype
        reduce, size, self._turn, self._solve = get_lapack_funcs(
            ("sytrd", "sytrd_lwork", "ormqr", "ptsv"), (matrix,)
        )
        work = max(1, int(size(len(matrix), lower=1)[0]))
        # the transposed of a symmetric matrix in C's order is the same one in Fortran's
        found, self._diagonal, self._beside, self._factors, _ = reduce(
            matrix.T, lower=1, lwork=work, overwrite_a=1
        )
        self._reflections = np.asfortranarray(found[1:, :-1])
        self.trace = float(self._diagonal.sum(dtype=np.float64))
        largest = float(self._diagonal.max(initial=0.0))
        self._floor = max(_NEGLIGIBLE[self._dtype] * largest, 1e-30)

    def turn(self, columns: np.ndarray) -> np.ndarray:
        """`Q^T C`, of C `(r, m)`."""
        return self._turned(columns, "T")

    def turn_back(self, columns: np.ndarray) -> np.ndarray:
        """`Q C`, of C `(r, m)`."""
        return self._turned(columns, "N")

    def times(self, columns: np.ndarray) -> np.ndarray:
        """`T C`, of C `(r, m)`."""
        result = self._diagonal[:, None] * columns
        result[1:] += self._beside[:, None] * columns[:-1]
        result[:-1] += self._beside[:, None] * columns[1:]
        return result

    def solve(self, penalty: float, columns: np.ndarray) -> np.ndarray:
        """`(T + penalty)^-1 C`, of C `(r, m)`."""
        penalty = max(penalty, self._floor)
        if len(columns) == 1:
            return columns / (self._diagonal + self._dtype.type(penalty))
        while True:
            diagonal = self._diagonal + self._dtype.type(penalty)
            _, _, found, info = self._solve(diagonal, self._beside, columns, overwrite_d=1)
            if info == 0:
                return np.asarray(found)
            penalty *= 10.0  # rounding errors outweigh it

    def _turned(self, columns: np.ndarray, transposed: str) -> np.ndarray:
        result = np.array(columns, self._dtype, order="F")
        if len(result) > 2:  # the first direction stays as it is
            work = 64 * max(1, result.shape[1])
            result[1:], _, _ = self._turn(
                "L", transposed, self._reflections, self._factors, result[1:], work
            )
        return result
