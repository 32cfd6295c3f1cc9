"""What Tocsin knows: the Peewee tables, and the pure rules that live on them."""
