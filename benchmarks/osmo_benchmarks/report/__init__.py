"""What a run found: on the terminal, as a page, as a picture and as a table for a README."""
