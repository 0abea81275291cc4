"""The ``optc.passes`` package; its files live in the top-level folder ``passes/``."""

if __name__ == "passes":
    raise ImportError("import this package as optc.passes: at the top level its modules would load twice")
