"""The ``optc.targets`` package; its files live in the top-level folder ``targets/``."""

if __name__ == "targets":
    raise ImportError("import this package as optc.targets: at the top level its modules would load twice")
