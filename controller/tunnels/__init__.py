"""Health of tunnels: probes to every VTEP in use. Pure."""
