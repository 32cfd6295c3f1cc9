"""The far side: local receivers that speak the providers' real protocols and verify what they get.

For the demo, the tests, the fault suite and the benchmarks; README.md shows how. They stand alone, as the
real
providers do: nothing here imports, or looks at, the senders that are judged by it.
"""

from __future__ import annotations

from receivers.base import ANY, Receiver
from receivers.farside import FarSide
from receivers.records import Answer, Received

__all__ = ["ANY", "Answer", "FarSide", "Received", "Receiver"]
