"""A role that serves an ASGI or WSGI application over HTTP: the server, its shutdown, and the two interfaces."""
