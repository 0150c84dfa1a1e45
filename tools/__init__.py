"""Tools that look at a Warren from outside."""
