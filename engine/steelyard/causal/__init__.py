"""Causal estimates: doubly robust scores, group rewards, policy values (docs/estimators.md, 5 and 6)."""
