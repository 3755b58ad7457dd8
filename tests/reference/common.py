"""Twins of what kernels/common.h shares."""

MASK = (1 << 64) - 1


def mix(x: int) -> int:
    """Stafford's variant 13 of MurmurHash3's 64-bit finaliser."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)
