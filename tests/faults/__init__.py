"""The fault suite: the whole stack under load, a fault, healing, and an account of every delivery.

`python -m tests.faults` (`make faults`) runs every fault for several cycles and writes docs/reliability.md;
test_short_form.py runs the most telling ones once.
"""
