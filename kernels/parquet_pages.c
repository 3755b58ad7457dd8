/* Parquet's pages as they lie in a file: their headers, the words of a dictionary page, and the numbers of those words,
   row by row, in the data pages that follow it.

   The format is https://parquet.apache.org/docs/file-format/; a header is a struct in Thrift's compact protocol. Nothing
   beyond the given bytes is read, whatever they say. Words of numbers are little-endian, here as there. */
#include "common.h"
#include "encode_integers.h"
#include "parquet_pages.h"

#define LARGEST (1 << 30) /* bytes of a page, and values */
enum { DATA, DICTIONARY = 2, DATA_2 };                        /* types of pages */
enum { PLAIN, PLAIN_DICTIONARY = 2, RLE, RLE_DICTIONARY = 8 }; /* encodings */
#define DEEPEST 8 /* structs within structs of a header: it has two levels, and statistics one more */

typedef struct {
    const uint8_t *at, *end;
    int bad; /* it ended too early, or says what no header says */
} reader;

static uint8_t byte_of(reader *r) {
    if (r->at < r->end)
        return *r->at++;
    r->bad = 1;
    return 0;
}

static uint64_t varint(reader *r) {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const uint8_t byte = byte_of(r);
        value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
    r->bad = 1;
    return 0;
}

static int64_t zigzag(reader *r) {
    const uint64_t value = varint(r);
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

static void skip_bytes(reader *r, uint64_t length) {
    if (length > (uint64_t)(r->end - r->at))
        r->bad = 1;
    else
        r->at += length;
}

/* Reads a struct, told which field of the header it is (0: the header itself). Whole numbers and flags of it go to
   `fields` where that is asked for. */
static void structure(reader *r, int64_t within, int depth, int64_t *fields) {
    static const struct {
        int64_t within, id;
        int field;
    } ASKED[] = {
        {0, 1, SY_PAGE_TYPE},       {0, 2, SY_PAGE_SIZE},           {0, 3, SY_PAGE_STORED},
        {5, 1, SY_PAGE_VALUES},     {5, 2, SY_PAGE_ENCODING},       {5, 3, SY_PAGE_LEVEL_ENCODING},
        {7, 1, SY_PAGE_VALUES},     {7, 2, SY_PAGE_ENCODING},       {8, 1, SY_PAGE_VALUES},
        {8, 4, SY_PAGE_ENCODING},   {8, 5, SY_PAGE_LEVELS},         {8, 6, SY_PAGE_REPEATS},
        {8, 7, SY_PAGE_COMPRESSED},
    };
    int64_t id = 0;
    if (depth > DEEPEST)
        r->bad = 1;
    while (!r->bad) {
        const uint8_t head = byte_of(r);
        if (head == 0)
            return;
        const int64_t more = head >> 4;
        id = more ? id + more : zigzag(r);
        int64_t value = 0;
        switch (head & 15) {
        case 1: /* true */
            value = 1;
            break;
        case 2: /* false */
            break;
        case 3:
            value = byte_of(r);
            break;
        case 4:
        case 5:
        case 6: /* whole numbers of 16, 32 and 64 bits */
            value = zigzag(r);
            break;
        case 7: /* a double */
            skip_bytes(r, 8);
            break;
        case 8: /* text */
            skip_bytes(r, varint(r));
            break;
        case 12:
            structure(r, depth == 0 ? id : -1, depth + 1, fields);
            break;
        default: /* lists and maps: no header has them */
            r->bad = 1;
        }
        for (size_t i = 0; i < sizeof ASKED / sizeof *ASKED; i++)
            if (!r->bad && within == ASKED[i].within && id == ASKED[i].id)
                fields[ASKED[i].field] = value;
    }
}

/* The header at the start of some bytes: `fields` (SY_PAGE_FIELDS) as parquet_pages.h names them, -1 where it says
   nothing of one. Returns its length, or 0 where the bytes are no header or end before it does. */
static ptrdiff_t header(ptrdiff_t n_bytes, const uint8_t *bytes, int64_t *fields) {
    reader r = {bytes, bytes + n_bytes, 0};
    for (int i = 0; i < SY_PAGE_FIELDS; i++)
        fields[i] = -1;
    structure(&r, 0, 0, fields);
    return r.bad ? 0 : r.at - bytes;
}

/* Whether a page of this header is one of words, or of numbers of words, without repeats and of a size that is held. */
static int is_sound(const int64_t *fields, int nullable) {
    const int64_t encoding = fields[SY_PAGE_ENCODING], levels = fields[SY_PAGE_LEVELS];
    for (int i = SY_PAGE_SIZE; i <= SY_PAGE_VALUES; i++)
        if (fields[i] < 0 || fields[i] > LARGEST)
            return 0;
    if (fields[SY_PAGE_TYPE] == DICTIONARY)
        return encoding == PLAIN || encoding == PLAIN_DICTIONARY;
    if (encoding != RLE_DICTIONARY && encoding != PLAIN_DICTIONARY)
        return 0;
    if (fields[SY_PAGE_TYPE] == DATA)
        return !nullable || fields[SY_PAGE_LEVEL_ENCODING] == RLE;
    return fields[SY_PAGE_TYPE] == DATA_2 && levels >= 0 && levels <= fields[SY_PAGE_SIZE] &&
           levels <= fields[SY_PAGE_STORED] && fields[SY_PAGE_REPEATS] == 0;
}

/* The pages from byte `at` on, until they have `rows` rows in all or are `most`: of each what its header says (fields of
   parquet_pages.h), where its body begins and would end, be there so many bytes or not, and whether it is one that is
   read here. Returns how many have a header. nullable: whether values may be null. */
ptrdiff_t sy_page_headers(ptrdiff_t n_bytes, const uint8_t *bytes, int nullable, ptrdiff_t at, int64_t rows,
                          ptrdiff_t most, int64_t *table) {
    ptrdiff_t i = 0;
    for (; i < most && rows > 0 && at < n_bytes; i++) {
        int64_t *fields = table + i * SY_PAGE_PLACES;
        const ptrdiff_t length = header(n_bytes - at, bytes + at, fields);
        if (length == 0)
            break;
        const int64_t stored = fields[SY_PAGE_STORED], left = n_bytes - at - length;
        fields[SY_PAGE_BEGIN] = at + length;
        fields[SY_PAGE_END] = at + length + (stored < 0 ? 0 : stored <= left ? stored : left + 1);
        fields[SY_PAGE_SOUND] = is_sound(fields, nullable);
        rows -= fields[SY_PAGE_TYPE] == DICTIONARY || fields[SY_PAGE_VALUES] < 0 ? 0 : fields[SY_PAGE_VALUES];
        at = (ptrdiff_t)fields[SY_PAGE_END];
    }
    return i;
}

/* The n words of a dictionary page, each behind its length, as Arrow's string views (n x 2) into those bytes, buffer 0.
   Returns n, or how many words there are before the bytes end. */
ptrdiff_t sy_page_words(ptrdiff_t n_bytes, const uint8_t *bytes, ptrdiff_t n, uint64_t *views) {
    ptrdiff_t at = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        uint32_t length, prefix = 0;
        if (n_bytes - at < 4)
            return i;
        memcpy(&length, bytes + at, 4);
        at += 4;
        if (length > INT32_MAX || (ptrdiff_t)length > n_bytes - at || at > INT32_MAX)
            return i;
        if (length <= 12) {
            uint8_t view[16] = {0};
            memcpy(view, &length, 4);
            memcpy(view + 4, bytes + at, length);
            memcpy(views + 2 * i, view, 16);
        } else {
            memcpy(&prefix, bytes + at, 4);
            views[2 * i] = (uint64_t)prefix << 32 | length;
            views[2 * i + 1] = (uint64_t)at << 32;
        }
        at += (ptrdiff_t)length;
    }
    return n;
}

/* Eight numbers of `width` bits from `packed`, of which width + 8 bytes can be read. */
static inline void eight(const uint8_t *packed, int width, int32_t *numbers) {
    const uint64_t mask = ((uint64_t)1 << width) - 1;
    for (int i = 0; i < 8; i++) {
        uint64_t word;
        memcpy(&word, packed + (i * width >> 3), 8);
        numbers[i] = (int32_t)(word >> (i * width & 7) & mask);
    }
}

/* One number of a packed run, the bytes up to `size` its own. */
static int32_t one(const uint8_t *packed, ptrdiff_t size, int width, int64_t place) {
    uint64_t word = 0;
    const ptrdiff_t at = (ptrdiff_t)(place * width >> 3);
    memcpy(&word, packed + at, size - at < 8 ? (size_t)(size - at) : 8);
    return (int32_t)(word >> (place * width & 7) & (((uint64_t)1 << width) - 1));
}

/* Begins the run at state's place. Returns 0 where the bytes are none. */
static int begun(ptrdiff_t n_bytes, const uint8_t *bytes, int width, int64_t *state) {
    reader r = {bytes + state[SY_RUN_NEXT], bytes + n_bytes, 0};
    const uint64_t head = varint(&r), many = head >> 1;
    state[SY_RUN_TAKEN] = 0;
    if (head & 1) { /* groups of eight; the last may be cut short behind the last number that counts */
        const int64_t left = r.end - r.at, told = many < INT32_MAX / 8 ? (int64_t)many : INT32_MAX / 8;
        const int64_t size = told * width < left ? told * width : left;
        const int64_t whole = width ? 8 * size / width : INT32_MAX;
        state[SY_RUN_PACKED] = r.at - bytes;
        state[SY_RUN_NEXT] = state[SY_RUN_PACKED] + size;
        state[SY_RUN_LEFT] = 8 * told < whole ? 8 * told : whole;
    } else {
        uint64_t value = 0;
        for (int shift = 0; shift < width; shift += 8)
            value |= (uint64_t)byte_of(&r) << shift;
        if (value > INT32_MAX)
            return 0;
        state[SY_RUN_PACKED] = -1;
        state[SY_RUN_VALUE] = (int64_t)value;
        state[SY_RUN_NEXT] = r.at - bytes;
        state[SY_RUN_LEFT] = many < INT32_MAX ? (int64_t)many : INT32_MAX;
    }
    if (r.bad)
        state[SY_RUN_LEFT] = 0;
    return !r.bad;
}

/* The next n numbers of `width` bits, 0 to 31, of runs of one number and of packed ones (Parquet's RLE). state
   (SY_RUN_FIELDS): all 0 at first, and kept from call to call. numbers NULL: passes over them. Returns n, or less where
   the bytes have no more. */
ptrdiff_t sy_page_numbers(ptrdiff_t n_bytes, const uint8_t *bytes, int width, ptrdiff_t n, int64_t *state,
                          int32_t *numbers) {
    ptrdiff_t done = 0;
    while (done < n) {
        while (state[SY_RUN_LEFT] == 0)
            if (state[SY_RUN_NEXT] >= n_bytes || !begun(n_bytes, bytes, width, state))
                return done;
        const ptrdiff_t m = n - done < state[SY_RUN_LEFT] ? n - done : (ptrdiff_t)state[SY_RUN_LEFT];
        ptrdiff_t i = 0;
        if (!numbers) {
            i = m;
        } else if (state[SY_RUN_PACKED] < 0) {
            for (; i < m; i++)
                numbers[done + i] = (int32_t)state[SY_RUN_VALUE];
        } else {
            const uint8_t *packed = bytes + state[SY_RUN_PACKED];
            const ptrdiff_t size = (ptrdiff_t)(state[SY_RUN_NEXT] - state[SY_RUN_PACKED]);
            const int64_t taken = state[SY_RUN_TAKEN];
            for (; i < m && (taken + i) % 8; i++)
                numbers[done + i] = one(packed, size, width, taken + i);
            const ptrdiff_t from = (ptrdiff_t)(taken + i) / 8 * width;
            ptrdiff_t groups = (m - i) / 8;
            while (groups > 0 && from + groups * width + 8 > size) /* the last ones are read byte by byte */
                groups--;
            for (ptrdiff_t group = 0; group < groups; group++)
                eight(packed + from + group * width, width, numbers + done + i + 8 * group);
            i += groups > 0 ? 8 * groups : 0;
            for (; i < m; i++)
                numbers[done + i] = one(packed, size, width, taken + i);
        }
        state[SY_RUN_TAKEN] += m;
        state[SY_RUN_LEFT] -= m;
        done += m;
    }
    return n;
}

/* Codes in the place of n numbers of words. Returns 0 where one is of no word, or of one without a code. One by one:
   gathered as vectors they take longer. */
static int coded(ptrdiff_t n, ptrdiff_t n_known, const int32_t *restrict known, int32_t *restrict codes) {
    int strange = 0;
    const uint32_t size = n_known < INT32_MAX ? (uint32_t)n_known : INT32_MAX;
    if (size == 0)
        return n == 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const int beyond = (uint32_t)codes[i] >= size;
        const int32_t code = known[beyond ? 0 : codes[i]];
        strange |= beyond | (code == SY_UNSEEN);
        codes[i] = code;
    }
    return !strange;
}

/* The codes of m stretches, one after the other. Returns how many are done: the next has a word without a code, or ends
   early, and nothing is said of its rows and those behind it. */
ptrdiff_t sy_page_codes(ptrdiff_t m, const sy_stretch *stretches, int32_t *codes) {
    for (ptrdiff_t i = 0; i < m; i++) {
        const sy_stretch *s = stretches + i;
        int64_t state[SY_RUN_FIELDS] = {0};
        if (sy_page_numbers(s->n_bytes, s->bytes, s->width, s->before, state, NULL) < s->before ||
            sy_page_numbers(s->n_bytes, s->bytes, s->width, s->count, state, codes) < s->count ||
            !coded(s->count, s->n_known, s->known, codes))
            return i;
        if (s->count) /* there may be no room at all */
            codes += s->count;
    }
    return m;
}
