"""What is called."""


def echo(value):
    return value


def size(value):
    return len(value)
