"""What the Makefile calls: installing, locking, making an environment file. Standard library only."""
