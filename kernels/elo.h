#ifndef STEELYARD_ELO_H
#define STEELYARD_ELO_H
#include <stddef.h>
#include <stdint.h>

void sy_elo(ptrdiff_t n, const int32_t *a, const int32_t *b, const double *y, const double *weight,
            const int64_t *order, double step, double scale, double *rating);
#endif
