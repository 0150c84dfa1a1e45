"""YAML documents: reading, writing, and the difference between a document and the store. Pure."""
