"""Words that people read."""


def counted(count: int, what: str) -> str:
    """`1 delivery`, `2 deliveries`."""
    if count == 1:
        return f"1 {what}"
    return f"{count} {what[:-1]}ies" if what.endswith("y") else f"{count} {what}s"
