"""Tables of the pages, made at build from what was measured and from the library itself."""

import comparison

TABLES = {"compare": comparison.table}
