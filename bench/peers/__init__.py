"""Other ways to do the same, each set up as its documentation advises."""
