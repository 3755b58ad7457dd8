/* Arrow string views to integer codes, without touching the strings.

   A view is 16 bytes: length, then the string itself (up to 12 bytes) or prefix, buffer number and
   offset. Within one chunk equal views are equal strings, so a cache from views to codes answers
   almost every row; only views not seen in this chunk are looked up by content in the dictionary.
   The dictionary is an open-addressing table over an arena of bytes; all of it is the caller's. */
#include "common.h"
#include "encode_views.h"

#define PROBES 8
#define AHEAD 32 /* rows that are looked up together where few come twice */

static inline const uint8_t *content(const uint64_t *view, const uint8_t *const *buffers) {
    const uint32_t length = (uint32_t)view[0];
    if (length <= 12)
        return (const uint8_t *)view + 4;
    return buffers[(uint32_t)view[1]] + (view[1] >> 32);
}

static uint64_t hash_bytes(const uint8_t *text, ptrdiff_t length) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ (uint64_t)length, word;
    for (; length >= 8; text += 8, length -= 8) {
        memcpy(&word, text, 8);
        h = sy_mix(h ^ word);
    }
    word = 0;
    memcpy(&word, text, (size_t)length);
    return sy_mix(h ^ word);
}

/* Slots of codes by hash, and of each code its hash and where its text ends in the arena; with room for so many. */
typedef struct {
    ptrdiff_t n_slots, capacity, arena_capacity;
    int32_t *slots;
    uint64_t *hashes;
    int64_t *offsets;
    uint8_t *arena;
    int64_t *count;
} table;

static inline int32_t in_slot(const table *t, uint64_t slot) {
    return __atomic_load_n(t->slots + (slot & ((uint64_t)t->n_slots - 1)), __ATOMIC_ACQUIRE);
}

/* Code of a string; -2 when it is unknown and may not be learned, -3 when there is no room for it.
   Other threads may look strings up (learn = 0) meanwhile: a slot, and then the count, is written last. */
static int32_t lookup(const table *t, const uint8_t *text, ptrdiff_t length, uint64_t hash, int learn) {
    uint64_t slot = hash;
    for (int32_t code; (code = in_slot(t, slot)) >= 0; slot++) {
        if (t->hashes[code] == hash && t->offsets[code + 1] - t->offsets[code] == length &&
            memcmp(t->arena + t->offsets[code], text, (size_t)length) == 0)
            return code;
    }
    if (!learn)
        return -2;
    if (*t->count >= t->capacity || t->offsets[*t->count] + length > t->arena_capacity)
        return -3;
    const int32_t code = (int32_t)*t->count;
    memcpy(t->arena + t->offsets[code], text, (size_t)length);
    t->offsets[code + 1] = t->offsets[code] + length;
    t->hashes[code] = hash;
    __atomic_store_n(t->slots + (slot & ((uint64_t)t->n_slots - 1)), code, __ATOMIC_RELEASE);
    __atomic_store_n(t->count, code + 1, __ATOMIC_RELEASE);
    return code;
}

static inline int is_null(const uint8_t *valid, ptrdiff_t bit) { return valid && !(valid[bit >> 3] >> (bit & 7) & 1); }

/* Codes of m rows, at most AHEAD, each looked up by its text: every step asks for what the next one reads, so that they
   wait for memory together. Returns m, or the first row for which there was no room. */
static ptrdiff_t lookup_each(const table *t, ptrdiff_t m, const uint64_t *views, const uint8_t *valid, ptrdiff_t bit,
                             const uint8_t *const *buffers, int learn, int32_t *codes) {
    uint64_t hash[AHEAD];
    const uint8_t *text[AHEAD];
    for (ptrdiff_t i = 0; i < m; i++) {
        text[i] = is_null(valid, bit + i) ? NULL : content(views + 2 * i, buffers);
        if (text[i])
            SY_PREFETCH(text[i], 0);
    }
    for (ptrdiff_t i = 0; i < m; i++) {
        hash[i] = text[i] ? hash_bytes(text[i], (uint32_t)views[2 * i]) : 0;
        SY_PREFETCH(t->slots, hash[i] & ((uint64_t)t->n_slots - 1));
    }
    for (ptrdiff_t i = 0; i < m; i++) {
        codes[i] = in_slot(t, hash[i]);
        if (codes[i] >= 0) {
            SY_PREFETCH(t->hashes, codes[i]);
            SY_PREFETCH(t->offsets, codes[i]);
        }
    }
    for (ptrdiff_t i = 0; i < m; i++)
        if (codes[i] >= 0)
            SY_PREFETCH(t->arena, t->offsets[codes[i]]);
    for (ptrdiff_t i = 0; i < m; i++) {
        codes[i] = text[i] ? lookup(t, text[i], (uint32_t)views[2 * i], hash[i], learn) : -1;
        if (codes[i] == -3)
            return i;
    }
    return m;
}

typedef struct {
    uint64_t low, high; /* the view */
    int64_t code;       /* code + 3, so that 0 is an empty slot */
    int64_t unused;     /* 32 bytes: a slot never straddles two cache lines */
} entry;

static inline ptrdiff_t slot_of(uint64_t low, uint64_t high) {
    return (ptrdiff_t)(((low ^ (high << 23 | high >> 41)) * 0x9e3779b97f4a7c15u) >> 52);
}

/* Codes of rows start..n-1: the code, -1 for null, -2 for unknown (learn = 0).
   Returns n, or the first row for which the dictionary had no room: grow it and call again from there.
   cache: SY_VIEW_CACHE entries, cleared here because views name buffers of one chunk only. */
ptrdiff_t sy_encode_views(ptrdiff_t start, ptrdiff_t n, const uint64_t *views, const uint8_t *valid,
                          ptrdiff_t valid_offset, const uint8_t *const *buffers, int learn,
                          ptrdiff_t n_slots, ptrdiff_t capacity, ptrdiff_t arena_capacity,
                          int32_t *slots, uint64_t *hashes, int64_t *offsets, uint8_t *arena,
                          int64_t *count, uint64_t *cache, int32_t *codes) {
    const table t = {n_slots, capacity, arena_capacity, slots, hashes, offsets, arena, count};
    entry *entries = (entry *)cache;
    ptrdiff_t missed = 0, i = start;
    memset(cache, 0, SY_VIEW_CACHE * sizeof *entries);
    for (; i < n && (missed <= SY_VIEW_CACHE || 2 * missed < i - start); i++) {
        const uint64_t low = views[2 * i], high = views[2 * i + 1];
        if (is_null(valid, valid_offset + i)) {
            codes[i] = -1;
            continue;
        }
        ptrdiff_t at = slot_of(low, high);
        if (((entries[at].low ^ low) | (entries[at].high ^ high)) != 0 || !entries[at].code) {
            int probe = 0;
            for (; probe < PROBES && entries[at].code && (entries[at].low != low || entries[at].high != high); probe++)
                at = (at + 1) & (SY_VIEW_CACHE - 1);
            if (!entries[at].code || probe == PROBES) {
                missed++;
                const uint8_t *text = content(views + 2 * i, buffers);
                const int32_t code = lookup(&t, text, (uint32_t)low, hash_bytes(text, (uint32_t)low), learn);
                if (code == -3)
                    return i;
                entries[at] = (entry){low, high, code + 3, 0};
            }
        }
        codes[i] = (int32_t)entries[at].code - 3;
    }
    while (i < n) { /* few views come twice */
        const ptrdiff_t m = n - i < AHEAD ? n - i : AHEAD;
        const ptrdiff_t done = lookup_each(&t, m, views + 2 * i, valid, valid_offset + i, buffers, learn, codes + i);
        i += done;
        if (done < m)
            return i;
    }
    return n;
}

/* Fills an empty (-1) table of n_slots with the codes 0..count-1 by their hashes. */
void sy_rehash(ptrdiff_t count, const uint64_t *hashes, ptrdiff_t n_slots, int32_t *slots) {
    const uint64_t mask = (uint64_t)n_slots - 1;
    for (ptrdiff_t code = 0; code < count; code++) {
        uint64_t slot = hashes[code] & mask;
        while (slots[slot] >= 0)
            slot = (slot + 1) & mask;
        slots[slot] = (int32_t)code;
    }
}
