"""Who a listener is, by what it presents."""
