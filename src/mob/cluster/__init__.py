"""The role "gateway": it carries the links between members on different machines, over NATS."""
