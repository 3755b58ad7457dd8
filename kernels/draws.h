#ifndef STEELYARD_DRAWS_H
#define STEELYARD_DRAWS_H
#include <stddef.h>
#include <stdint.h>

void sy_multinomial(ptrdiff_t m, const double *counts, const double *cumulative, const int64_t *guide, uint64_t seed, uint64_t replicate,
                    double *drawn);
void sy_normals(ptrdiff_t m, uint64_t seed, uint64_t replicate, double *drawn);
#endif
