"""`osmo-pipeline top`: what goes through a pipeline now, on a terminal."""
