"""A key/value store for the whole app: a dictionary in one process."""

numbers: dict[str, int] = {}


def get(key: str) -> int:
    """Return the number under `key`; 0 if there is none."""
    return numbers.get(key, 0)


def put(key: str, number: int) -> None:
    """Keep `number` under `key`."""
    numbers[key] = number


def incr(key: str, by: int = 1) -> int:
    """Add `by` to the number under `key` and return the sum."""
    numbers[key] = get(key) + by
    return numbers[key]
