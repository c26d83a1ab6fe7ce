"""A role that serves an ASGI or WSGI application over HTTP: the server, its end, and the two interfaces."""
