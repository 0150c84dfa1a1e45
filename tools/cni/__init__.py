"""The CNI plugin, a program of its own that container runtimes start."""
