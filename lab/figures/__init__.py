"""Figures drawn from stored runs. One file per figure; each turns tables into a `Drawn`, and none of them trains."""
