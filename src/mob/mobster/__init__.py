"""The worker's side: the loop, links to the others, proxies, calls, callbacks, and the life of a role's process."""
