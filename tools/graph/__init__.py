"""The topology as a picture."""
