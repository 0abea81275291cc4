"""The ``optc.codegen`` package; its files live in the top-level folder ``codegen/``."""

if __name__ == "codegen":
    raise ImportError("import this package as optc.codegen: at the top level its modules would load twice")
