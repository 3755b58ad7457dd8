"""Causal estimates: doubly robust scores, group rewards, policy values (estimators.md, sections 8 to 11)."""
