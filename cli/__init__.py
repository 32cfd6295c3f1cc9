"""The `tocsin` command: translates words into calls of `admin` and `actors`, and what comes back into tables or JSON."""
