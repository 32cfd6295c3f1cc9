"""The `tocsin` command: words into calls of `admin` and `actors`, answers into tables or JSON."""
