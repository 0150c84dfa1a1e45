"""What all of Warren stands on: errors, settings, and (`warren.client`) the public Python client."""
