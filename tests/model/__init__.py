"""A model of the whole: random clusters and faults, and a store that has to equal the cluster."""
