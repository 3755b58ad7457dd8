"""NumPy twins of the compiled modules: reference.<stem> redoes steelyard._native.<stem>, plainly.

Same names, same argument order, same meaning; written to be read, not to be fast.
"""
