"""Every table of the published study, measured side by side in one run.

`run` is what was measured, `plan` what is to be, `systems` who takes part, `rounds` the order in
which they do, `tables` one module per table of the study, `report` what a reader sees.
"""
