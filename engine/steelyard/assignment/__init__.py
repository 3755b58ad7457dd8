"""Who was shown what: propensities, weights, overlap (docs/estimators.md, 4)."""
