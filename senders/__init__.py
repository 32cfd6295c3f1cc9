"""One module a provider, all behind the interface in senders.base: no table, no queue, no other sender in it."""
