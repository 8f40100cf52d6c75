"""`osmo-pipeline web`: the fleet on a page that stays current, for a browser and nothing else."""
