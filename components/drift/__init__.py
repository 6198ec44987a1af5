"""Drift: whether new images are like those of the window, in the champion's eyes and by what anybody sees of them."""
