"""The underlay in a cloud: addresses, routes and rules of a host's interfaces from the cloud's metadata. Works without the rest of Warren."""
