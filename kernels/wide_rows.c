/* Rows of many features, as they lie, times a vector, and a vector times them; feature_rows.h has how. */
#include "wide_rows.h"
#include "feature_rows.h"

FEATURE_ROWS(, float)
FEATURE_ROWS(, double)
