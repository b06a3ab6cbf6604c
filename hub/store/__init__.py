"""The store: tables, migrations and the only SQL of the hub. SQLite here; the SQL is portable."""
