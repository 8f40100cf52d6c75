"""The queue inside one process: `queue` and its consumers over a `store` that those of one name
share.
"""
