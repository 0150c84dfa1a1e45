"""What the specs mean for one host: conflicts resolved, names looked up, the view that the compiler takes. Pure."""
