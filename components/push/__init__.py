"""Puts a blessed model into a versioned directory, whole or not at all, unless the champion there is better."""
