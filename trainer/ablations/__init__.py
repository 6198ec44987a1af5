"""The papers' tables at any scale: their cells, what a cell measures, and a run that goes on after a kill."""
