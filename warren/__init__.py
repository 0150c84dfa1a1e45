"""What all of Warren stands on: errors, settings, and (`warren.client`) the public Python client."""

__version__ = "0.1.0"  # its only place: setup.py and the agent read it from here
