"""A stand-in for the package ``datasets``: a table of columns in memory."""

import sys
from types import SimpleNamespace


class Table:
    """The part of datasets.Dataset that the library uses. A row of ``broken`` raises when it is decoded."""

    def __init__(self, columns, names=None, broken=()):
        self.columns, self.broken = columns, broken
        self.column_names = list(columns)
        self.features = {name: SimpleNamespace() for name in columns}
        if names is not None:
            self.features["label"].names = names

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def select_columns(self, names):
        return Table({name: self.columns[name] for name in names}, broken=self.broken)

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        if key in self.broken:
            raise SyntaxError("broken PNG file")
        return {name: column[key] for name, column in self.columns.items()}


def pretend(monkeypatch, table):
    """Make this table the content of every ``hf:`` source."""
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        if isinstance(table, Exception):
            raise table
        return table

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked
