"""Who was shown what: propensities, weights, overlap (estimators.md, 6 and 7)."""
