"""Benchmarks: `python -m bench` (short), `python -m bench --full` (long).

Every figure stands beside a ceiling or a peer of the same run.

What is measured runs on a PostgreSQL and a RabbitMQ of its own, durable as in production; what receives runs outside of
the measured processes. Rates are compared within one run only: a figure of another machine or hour says nothing.
"""
