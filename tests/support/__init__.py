"""What several test folders need, and no product code does."""
