"""A TCP forwarder: `python -m tests.faults.forward HOST PORT TARGET_PORT`. SIGUSR1 stops all movement, SIGUSR2 resumes.

While it is stopped, connections stay open and nothing is read from either side: to both it looks like a cut cable, but
that the kernel acknowledges the first bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys

import uvloop


async def forward(host: str, port: int, target: int) -> None:
    """Serve for ever."""
    flowing = asyncio.Event()
    flowing.set()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, flowing.clear)
    loop.add_signal_handler(signal.SIGUSR2, flowing.set)

    async def move(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await flowing.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await flowing.wait()
        with contextlib.suppress(OSError):
            try:
                there, back = await asyncio.open_connection("127.0.0.1", target)
            except OSError:
                # Refused there is reset here: the nearest that an accepted connection can come to it.
                writer.transport.abort()
                return
            await asyncio.gather(move(reader, back), move(there, writer), return_exceptions=True)

    # All that waited for a cut to end comes at once: what finds no room comes again seconds later, beyond deadlines.
    server = await asyncio.start_server(serve, host, port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(forward(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
