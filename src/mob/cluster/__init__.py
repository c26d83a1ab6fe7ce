"""The role "gateway": what carries the links between members on different machines, over NATS."""
