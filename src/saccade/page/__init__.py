"""Pages that need nothing from outside: one style sheet, one set of charts, tables and tiles for every report."""

from saccade.page.parts import Markup, document, plain, readable, table, tiles

__all__ = ["Markup", "document", "plain", "readable", "table", "tiles"]
