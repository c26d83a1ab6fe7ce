"""The store of an app: data that all of its processes share, kept in a role of one worker."""
