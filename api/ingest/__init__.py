"""Other systems' alerts, translated into ours by pure functions."""
