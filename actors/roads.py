"""The queues between the stages, and which of what a worker holds it takes first."""

from __future__ import annotations

from datetime import timedelta

#: The door of producers that have RabbitMQ and nothing else: docs/producers.md.
ACCEPT = "tocsin.accept"

#: One a stage: RabbitMQ's management console shows where work waits.
MATCH, FANOUT, DELIVER = "tocsin.match", "tocsin.fanout", "tocsin.deliver"

#: The road of critical alerts through all stages: no backlog of others is before them, in no queue and for no thread.
CRITICAL = "tocsin.critical"

#: The road of what the sweep sends on, such as thousands of pushes put off until the morning: behind what is new.
LATER = "tocsin.later"

QUEUES = (MATCH, FANOUT, DELIVER, CRITICAL, LATER)

#: Dramatiq's priorities of what a worker holds, the lowest first. A new alert is matched before old ones are delivered.
URGENT, FRONT, BULK, LAST = 0, 5, 10, 15

#: Longer waits belong to the database: RabbitMQ takes a message back that a worker holds for 30 minutes, and a worker's
#: memory is no place for tomorrow's.
LONGEST_DELAYED_MESSAGE = timedelta(minutes=10)
