/* Rows to a table of pairs: who was shown first against whom, and how often a won, tied, lost.

   A cell is (first, a, b); first = 1 where being shown first counts, 0 where it does not. A hash table numbers the cells
   in order of appearance. Sums are doubles: whole numbers stay exact to 2^53. */
#include "common.h"
#include "pair_table.h"

static inline int64_t key_of(int32_t a, int32_t b, int first) {
    return ((int64_t)first << 62) | ((int64_t)a << 31) | (int64_t)b;
}

/* Cell numbers of rows start..n-1 (a, b < 2^31). Returns n, or the row that found no room. */
ptrdiff_t sy_pair_cells(ptrdiff_t start, ptrdiff_t n, const int32_t *a, const int32_t *b, const uint8_t *first,
                        ptrdiff_t n_slots, ptrdiff_t capacity, int32_t *slots, int64_t *keys, int64_t *count,
                        int32_t *cell) {
    const uint64_t mask = (uint64_t)n_slots - 1;
    for (ptrdiff_t i = start; i < n; i++) {
        const int64_t key = key_of(a[i], b[i], first ? first[i] : 1);
        uint64_t slot = sy_mix((uint64_t)key) & mask;
        while (slots[slot] >= 0 && keys[slots[slot]] != key)
            slot = (slot + 1) & mask;
        if (slots[slot] < 0) {
            if (*count >= capacity)
                return i;
            keys[*count] = key;
            slots[slot] = (int32_t)(*count)++;
        }
        cell[i] = slots[slot];
    }
    return n;
}

/* Fills an empty (-1) table of n_slots with the cells 0..count-1. */
void sy_pair_slots(ptrdiff_t count, const int64_t *keys, ptrdiff_t n_slots, int32_t *slots) {
    const uint64_t mask = (uint64_t)n_slots - 1;
    for (ptrdiff_t cell = 0; cell < count; cell++) {
        uint64_t slot = sy_mix((uint64_t)keys[cell]) & mask;
        while (slots[slot] >= 0)
            slot = (slot + 1) & mask;
        slots[slot] = (int32_t)cell;
    }
}

/* Where the outcomes of m rows from `at` on stand among win, tie, loss; 3: nowhere. Outcomes are either label codes with
   their place (label_place, above 2 = none), or y. */
static inline void places_of(ptrdiff_t at, ptrdiff_t m, const int32_t *label, const uint8_t *label_place,
                             ptrdiff_t n_labels, const double *y, uint32_t *place) {
    for (ptrdiff_t i = 0; i < m; i++) {
        if (label) {
            const uint32_t code = (uint32_t)label[at + i];
            place[i] = code < (uint32_t)n_labels ? label_place[code] : 3;
        } else {
            const double doubled = 2.0 - 2.0 * y[at + i];
            const int inside = (doubled >= 0.0) & (doubled <= 2.0); /* compared first: only then it fits an integer */
            const int32_t whole = inside ? (int32_t)doubled : 3;
            place[i] = (double)whole == doubled ? (uint32_t)whole : 3;
        }
    }
}

/* Plain rows among any arms below 2^30 as keys, a << 32 | b << 2 | place. Returns n, or less where some row is not
   plain, as sy_pair_count has it. */
SY_CLONES
ptrdiff_t sy_plain_keys(ptrdiff_t n, const int32_t *a, const int32_t *b, const int32_t *label,
                        const uint8_t *label_place, ptrdiff_t n_labels, const double *y, int64_t *keys) {
    uint32_t place[SY_CHUNK];
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        uint32_t odd = 0;
        places_of(at, m, label, label_place, n_labels, y, place);
#pragma omp simd reduction(| : odd)
        for (ptrdiff_t i = 0; i < m; i++) {
            const int32_t x = a[at + i], z = b[at + i];
            odd |= (uint32_t)((x < 0) | (z < 0) | (x == z) | (place[i] > 2));
            keys[at + i] = (int64_t)((uint64_t)(uint32_t)x << 32 | (uint64_t)(uint32_t)z << 2 | place[i]);
        }
        if (odd)
            return at;
    }
    return n;
}

/* Counts plain rows: known, different arms, a hard label, no weights. Outcomes as places_of has them. Counts are
   k x k x 3 (win, tie, loss), k <= SY_WIDEST_COUNT, held as count + 256 carry: the bytes that every row touches stay
   near the core. Returns n, or a row up to which all are counted, with one that is not plain among the next SY_CHUNK. */
SY_CLONES
ptrdiff_t sy_pair_count(ptrdiff_t n, const int32_t *a, const int32_t *b, const int32_t *label,
                        const uint8_t *label_place, ptrdiff_t n_labels, const double *y, ptrdiff_t k,
                        uint8_t *count, uint32_t *carry) {
    const uint32_t arms = (uint32_t)k;
    uint32_t place[SY_CHUNK];
    for (ptrdiff_t at = 0; at < n; at += SY_CHUNK) {
        const ptrdiff_t m = n - at < SY_CHUNK ? n - at : SY_CHUNK;
        uint32_t odd = 0;
        places_of(at, m, label, label_place, n_labels, y, place);
#pragma omp simd reduction(| : odd)
        for (ptrdiff_t i = 0; i < m; i++) {
            const uint32_t x = (uint32_t)a[at + i], z = (uint32_t)b[at + i];
            odd |= (uint32_t)((x >= arms) | (z >= arms) | (x == z) | (place[i] > 2));
            place[i] += 3 * (x * arms + z);
        }
        if (odd)
            return at;
        for (ptrdiff_t i = 0; i < m; i++)
            if (!++count[place[i]])
                carry[place[i]]++;
    }
    return n;
}

/* Counts (k x k x 3) of ordered pairs to cells: pair by pair of the k arms as `order` has them, each way that occurs. What
   stands i-th in it is named name[i]. a, b, sums: room for k (k - 1) cells. Returns how many there are. */
ptrdiff_t sy_square_cells(ptrdiff_t k, const double *count, const int32_t *order, const int32_t *name, int32_t *a,
                          int32_t *b, double *sums) {
    ptrdiff_t cell = 0;
    for (ptrdiff_t i = 0; i < k; i++)
        for (ptrdiff_t j = i + 1; j < k; j++)
            for (int flip = 0; flip < 2; flip++) {
                const ptrdiff_t x = flip ? j : i, z = flip ? i : j;
                const double *own = count + 3 * (order[x] * k + order[z]);
                if (own[0] + own[1] + own[2] == 0.0)
                    continue;
                a[cell] = name[x];
                b[cell] = name[z];
                memcpy(sums + 3 * cell++, own, 3 * sizeof(double));
            }
    return cell;
}

/* n sorted keys, (low << 33 | high << 3 | flip << 2 | place), each of count rows (NULL: one), to cells: a and b, who is
   high where flip, and sums (win, tie, loss) by place. a, b, sums: room for n cells. Returns how many there are. */
ptrdiff_t sy_sorted_cells(ptrdiff_t n, const int64_t *keys, const int64_t *count, int32_t *a, int32_t *b,
                          double *sums) {
    ptrdiff_t cell = -1;
    int64_t last = -1;
    for (ptrdiff_t i = 0; i < n; i++) {
        if (keys[i] >> 2 != last) {
            last = keys[i] >> 2;
            cell++;
            const int32_t low = (int32_t)(last >> 31), high = (int32_t)(last >> 1 & 0x3fffffff);
            a[cell] = last & 1 ? high : low;
            b[cell] = last & 1 ? low : high;
            sums[3 * cell] = sums[3 * cell + 1] = sums[3 * cell + 2] = 0.0;
        }
        sums[3 * cell + (keys[i] & 3)] += count ? (double)count[i] : 1.0;
    }
    return cell + 1;
}

/* n cells, those of one pair side by side, to one cell a pair: its lower arm, its higher, and the sums of the pair's
   cells (width numbers each, in turned order where a is the higher). Room for n; returns how many. */
ptrdiff_t sy_folded_cells(ptrdiff_t n, ptrdiff_t width, const int32_t *a, const int32_t *b, const double *values,
                          int32_t *low, int32_t *high, double *folded) {
    ptrdiff_t pair = -1;
    int32_t last_low = -1, last_high = -1;
    for (ptrdiff_t i = 0; i < n; i++) {
        const int flip = a[i] > b[i];
        const int32_t x = flip ? b[i] : a[i], z = flip ? a[i] : b[i];
        const int fresh = (x != last_low) | (z != last_high);
        pair += fresh;
        low[pair] = last_low = x;
        high[pair] = last_high = z;
        const double *from = values + width * i;
        double *to = folded + width * pair;
        for (ptrdiff_t j = 0; j < width; j++) {
            const double more = from[flip ? width - 1 - j : j];
            to[j] = fresh ? more : to[j] + more;
        }
    }
    return pair + 1;
}

/* A soft label y is spread over (win, tie, loss) so that what the estimators read stays exact: the sum
   of c w y through win = y, loss = 1 - y; and c w^2 (y - p)^2 for every p through the Lagrange basis of
   the quadratic at y = 1, 1/2, 0, which is 1 at its own outcome for hard labels. */
static inline void spread(double y, double cw, double cww, double *sums, double *squares) {
    sums[0] += cw * y;
    sums[2] += cw * (1.0 - y);
    squares[0] += cww * y * (2.0 * y - 1.0);
    squares[1] += cww * 4.0 * y * (1.0 - y);
    squares[2] += cww * (1.0 - y) * (1.0 - 2.0 * y);
}

/* Adds n good rows to sums (cells x 3: win, tie, loss; of count * weight), squares (of count * weight^2)
   and rows (cells; of count). cell: numbers from sy_pair_cells. Returns how many rows have a soft label. */
ptrdiff_t sy_pair_table(ptrdiff_t n, const int32_t *cell, const double *y, const double *weight, const double *count,
                        double *sums, double *squares, double *rows) {
    ptrdiff_t soft = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const ptrdiff_t at = cell[i];
        const double c = count ? count[i] : 1.0, w = weight ? weight[i] : 1.0, twice = 2.0 * y[i];
        const ptrdiff_t outcome = (ptrdiff_t)twice;
        rows[at] += c;
        if ((double)outcome == twice) {
            sums[3 * at + 2 - outcome] += c * w;
            squares[3 * at + 2 - outcome] += c * w * w;
        } else {
            spread(y[i], c * w, c * w * w, sums + 3 * at, squares + 3 * at);
            soft++;
        }
    }
    return soft;
}
