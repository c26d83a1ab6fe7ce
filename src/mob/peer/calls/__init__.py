"""Outgoing calls: proxies, the choice of a worker, batches, durable messages."""
