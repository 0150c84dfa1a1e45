"""Attaches, detaches and reconciles the endpoints of this host."""
