# cython: language_level=3, boundscheck=False, wraparound=False
"""Weighted second moments of columns by cell: one block of rows (kernels/cell_moments.c)."""

from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t

cdef extern from "tile_size.h":
    enum:
        TILE

cdef extern from "cell_moments.h":
    enum:
        SY_CELL_LANES
    void sy_cell_moments(
        ptrdiff_t n, ptrdiff_t d, const int32_t *cell, const double *columns, const double *weight, double *second,
        double *work) nogil


def wide(ptrdiff_t d):
    """Numbers that stand in for d columns in a row of the second moments."""
    return (d + SY_CELL_LANES - 1) // SY_CELL_LANES * SY_CELL_LANES


def work_size(ptrdiff_t d):
    """Numbers that cell_moments works on."""
    return TILE * (d + wide(d)) + 8


def cell_moments(
    const int32_t[::1] cell, const double[:, ::1] columns, const double[::1] weight, double[:, :, ::1] second,
    double[::1] work,
):
    cdef ptrdiff_t n = cell.shape[0], d = columns.shape[0], i
    cdef bint bad = False
    if columns.shape[1] != n or weight.shape[0] != n:
        raise ValueError("columns and weight must have one entry a row")
    if second.shape[1] != d or second.shape[2] != wide(d):
        raise ValueError("second must be cells x d x wide(d)")
    if work.shape[0] != work_size(d):
        raise ValueError("work must have work_size(d) numbers")
    if n == 0 or d == 0:
        return
    for i in range(n):
        bad |= cell[i] < 0 or cell[i] >= second.shape[0]
    if bad:
        raise ValueError("cells must be codes below the number of cells")
    with nogil:
        sy_cell_moments(n, d, &cell[0], &columns[0, 0], &weight[0], &second[0, 0, 0], &work[0])
