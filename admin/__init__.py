"""What an operator changes and asks: channels, rules, users, explanations, replays.

The CLI and the API only translate; nothing here prints. Bad input raises `model.problems.InvalidInput` with
the path of each wrong field; what is not there, or is another tenant's, raises LookupError in the same words.
"""
